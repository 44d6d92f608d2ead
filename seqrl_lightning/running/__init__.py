"""The parts of ``seqrl fit``, ``validate``, ``test`` and ``predict`` around Lightning's own, one job a file.

``parser`` reads settings; ``defaults`` has those of a kind of network or learner; ``origin`` finds the checkpoint that
a run starts from; ``folder`` is where it writes; ``failures`` names the cause of an error; ``messages`` prints.
"""
