"""The parts of ``seqrl fit``, ``validate``, ``test`` and ``predict`` around Lightning's own, one job a file.

``parser`` reads settings; ``defaults`` has the defaults for a kind of network or learner; ``origin`` finds the
checkpoint that a run starts from; ``folder`` claims the folder that it writes to; ``failures`` names the cause of an
error; ``messages`` prints.
"""
