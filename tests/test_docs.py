"""Every code block of README and docs is tried.

- `sh`, and indented blocks: each command is read by its own parser, with the files that it names. All of the page
  "Five minutes" is run, in order (slow).
- `yaml`: a config, over the defaults. Its classes are built, and the sampler is tried on the network.
- `python`: run, unless it shows code of this repository, which is compared with its source instead.
- `text` is output or pseudocode, `math` an equation.

What needs more than this machine has says so in its first line: ``# not run by the tests: REASON``. NOT_RUN lists them.
"""

import argparse
import functools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
import yaml

import seqrl_lightning
from docs.scripts import code as code_in_docs
from docs.scripts.code import SHOWN, with_code
from seqrl_lightning.__main__ import COMMANDS, parse
from seqrl_lightning.cli import SeqRLCLI
from seqrl_lightning.commands.packaged import with_paths
from seqrl_lightning.data_class import data_class_of, with_option
from seqrl_lightning.parts import blank_observations
from tests.running import seqrl

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOR_DEVELOPERS = [ROOT / "CONTRIBUTING.md", ROOT / "ARCHITECTURE.md"]
NOT_RUN = {
    ("docs/policy.md", "it installs"),
    ("docs/start.md", "it installs"),
    ("docs/devices.md", "it needs GPUs"),
    ("docs/devices.md", "it needs two nodes"),
    ("docs/devices.md", "it needs SLURM"),
    ("docs/devices.md", "it needs Ray"),
    ("docs/devices.md", "it needs a Ray cluster"),
    ("docs/measures.md", "it takes about twenty minutes"),
}
NEEDS = {
    "ale_py:ALE/Pong-v5": "ale_py",
    "minigrid:MiniGrid-Empty-5x5-v0": "minigrid",
    "neurogym:DelayMatchSample-v0": "neurogym",
}
LANGUAGES = {"sh", "yaml", "python", "text", "math"}
LIGHTNINGS = ("fit", "validate", "test", "predict")

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:\A|\n)\n((?: {4}.*\n)+)")
_REASON = re.compile(r"# not run by the tests: (.*)\n")


class Block(NamedTuple):
    page: str
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(path: Path) -> Iterator[Block]:
    text, page = SHOWN.sub(_blank, path.read_text()), str(path.relative_to(ROOT))
    for found in _FENCED.finditer(text):
        yield Block(page, text[: found.start()].count("\n") + 1, found[1], found[2])
    without = _FENCED.sub(_blank, text)
    for found in _INDENTED.finditer(without):
        yield Block(page, without[: found.start(1)].count("\n") + 1, "sh", re.sub(r"^ {4}", "", found[1], flags=re.M))


def _blank(found: re.Match[str]) -> str:
    """As many empty lines as the text has."""
    return re.sub(r".", "", found[0])


BLOCKS = [block for path in PAGES for block in blocks_of(path)]


def of(language: str) -> list[Any]:
    return [
        pytest.param(block, id=str(block), marks=[pytest.mark.slow] if takes_long(block) else [])
        for block in BLOCKS
        if block.language == language
    ]


def takes_long(block: Block) -> bool:
    """Whether Lightning's parser reads a command of it, which takes half a second; the README's is always tried."""
    by_lightning = rf"(seqrl|seqrl_lightning) ({'|'.join((*LIGHTNINGS, 'sweep'))}) "
    return block.language == "sh" and block.page != "README.md" and bool(re.search(by_lightning, block.code))


def commands_of(code: str) -> Iterator[list[str]]:
    """The words of each command; variables are 0."""
    code = re.sub(r"\$\w+", "0", code)
    for line in code.replace("\\\n", " ").splitlines():
        for command in line.split(" && "):
            words = shlex.split(command, comments=True)
            if words:
                yield words


class Unrun(SeqRLCLI):
    """The program up to the point where it would train."""

    def _run_subcommand(self, subcommand: str) -> None:
        pass


@functools.cache
def parser_of(data_class: str, command: str = "fit") -> Any:
    """The parser of ``seqrl fit`` and the like: each is built once, since that takes half a second."""
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(sys, "argv", ["seqrl"])
        table = Path(folder, "trials.csv")
        table.write_text('episode,action,reward,state\n0,1,1.0,"[0.0]"\n')
        data = f"--data.trials={table}" if data_class == "LoggedTrials" else "--data.env_id=CartPole-v1"
        weights = [] if command == "fit" else ["--ckpt_path=untrained"]
        return Unrun([command, f"--data_class={data_class}", data, "--trainer.logger=false", *weights]).parser


@pytest.fixture(scope="module")
def parser() -> Any:
    return parser_of("ReplayDataModule")


def check(words: list[str], parser: Any, folder: Path) -> None:
    """Reads one command as it would be read if it was run in ``folder``.

    Raises:
        SystemExit: If its arguments aren't right.
        AssertionError: If the program, or a file that it names, isn't there.
    """
    match words:
        case ["python", "-m", "pip", "install", *_]:
            extras = re.findall(r"\.\[(\w+)\]", words[-1])
            assert set(extras) <= set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.M))
            assert (folder / words[words.index("-c") + 1]).exists()
        case ["srun", *job] | ["torchrun", *job]:
            at = job.index("-m" if words[0] == "torchrun" else "seqrl")
            if words[0] == "torchrun":
                from torch.distributed.run import get_args_parser

                nproc = get_args_parser().parse_args([*job[:at], "script.py"]).nproc_per_node
                assert int(nproc) == int(job[job.index("--trainer.devices") + 1])
                assert find_spec(job[at + 1])
                at += 1
            check(["seqrl", *job[at + 1 :]], parser, folder)
        case ["python", "-m", "seqrl_lightning", *arguments]:
            check(["seqrl", *arguments], parser, folder)
        case ["seqrl", "fit", *arguments] if "--seeds" in arguments:
            check(["seqrl", "fit", *parse("fit-seeds", arguments).fit_arguments], parser, folder)
        case ["seqrl", "sweep", *arguments]:
            parsed = parse("sweep", arguments)
            from seqrl_lightning.commands.sweep_space import as_arguments, boundary_values, read_space

            for values in boundary_values(read_space(parsed.space)):
                configs = [f"--config={config}" for config in parsed.config]
                check(["seqrl", "fit", *configs, *parsed.fit_arguments, *as_arguments(values)], parser, folder)
        case ["seqrl", command, *arguments] if command in LIGHTNINGS:
            arguments = with_option(with_paths(arguments))
            try:
                parser_of(data_class_of(arguments).__name__, command).parse_args([command, *arguments])
            except SystemExit as end:  # --help, --print_config
                if end.code:
                    raise
        case ["seqrl", command, *arguments]:
            assert command in COMMANDS, words
            parse(command, arguments)
        case ["python", "-m", module, *arguments]:
            assert find_spec(module), words
            assert all((folder / path).exists() for path in arguments if path.startswith(("configs/", "benchmarks/")))
        case ["python", script, *_]:
            assert (folder / script).exists(), words
        case ["tensorboard", "--logdir", _] | ["pytest"]:
            assert find_spec(words[0])
        case _:
            raise AssertionError(f"no test knows how to try {shlex.join(words)}")


def test_the_changelog_begins_with_the_version() -> None:
    heading = re.search(r"^## \[(.*?)\] - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heading is not None
    assert heading[1] == seqrl_lightning.__version__


def test_there_is_something_to_try() -> None:
    assert {block.language for block in BLOCKS} == LANGUAGES
    assert sum(block.page == "README.md" for block in BLOCKS) >= 4


def test_the_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    tables = re.findall(r"^\|(?: ---)+.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert len(tables) == 3  # what is in the box, results, speed
    assert max(table.count("\n") for table in tables) <= 12


def test_the_code_that_pages_show_is_the_code() -> None:
    texts = {path: path.read_text() for path in PAGES}
    assert sum(len(SHOWN.findall(text)) for text in texts.values()) > 20
    for path, text in texts.items():
        assert text == with_code(text), f"run python -m docs.scripts.code ({path})"


def test_code_is_shown_by_name_without_its_docstring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_in_docs, "ROOT", tmp_path)
    source = 'class A:\n    @property\n    def b(self):\n        """Doc."""\n        return 1\n\n    c = 2\n'
    (tmp_path / "a.py").write_text(source)
    assert code_in_docs.code("a.py", ["A.b"]) == "# a.py\n\n\n@property\ndef b(self):\n    return 1"
    assert code_in_docs.code("a.py", []) == source.rstrip()
    with pytest.raises(ValueError, match=r"nothing defines A\.c"):
        code_in_docs.code("a.py", ["A.c"])


TEMPLATE = [
    "Equation",
    "Update",
    "Differences from the (?:paper|textbook)",
    "Config",
    "Results",
    "When to use it",
]
ALGORITHMS = sorted(set((ROOT / "docs" / "algorithms").glob("*.md")) - {ROOT / "docs" / "algorithms" / "index.md"})


@pytest.mark.parametrize("page", ALGORITHMS, ids=lambda path: path.stem)
def test_the_page_of_an_algorithm_follows_the_template(page: Path) -> None:
    text = page.read_text()
    headings = re.findall(r"^## (.*)$", _FENCED.sub("", text), re.MULTILINE)
    assert len(headings) == len(TEMPLATE)
    assert all(re.fullmatch(*pair) for pair in zip(TEMPLATE, headings, strict=True)), headings
    _, equation, update, differences, config, results, _ = re.split(r"^## .*$", text, flags=re.MULTILINE)
    assert "```math\n" in equation
    pseudocode = re.findall(r"```text\n(.*?)```", update, re.DOTALL)
    assert len(pseudocode) == 1
    assert pseudocode[0].count("\n") <= 10
    assert SHOWN.search(update)
    assert "- " in differences
    assert "```yaml\n" in config
    assert "<!-- measured: " in results or "../offline.md#results" in results


@pytest.mark.parametrize("page", ALGORITHMS, ids=lambda path: path.stem)
def test_equations_have_one_notation(page: Path) -> None:
    for equation in re.findall(r"^```math\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        bootstraps = r"\theta^-" in equation and r"\gamma" in equation
        assert not bootstraps or "(1 - d" in equation, equation
        assert not re.search(r"\\tau_|\\epsilon|h_t|s_\{t\+n\}", equation), equation


@pytest.mark.parametrize("folder", ["algorithms", "tasks"])
def test_an_index_leads_to_all_of_its_pages(folder: str) -> None:
    pages = {path.name for path in (ROOT / "docs" / folder).glob("*.md")} - {"index.md"}
    linked = set(re.findall(r"\]\((\w+\.md)\)", (ROOT / "docs" / folder / "index.md").read_text()))
    assert linked == pages


def test_what_is_not_run_is_listed() -> None:
    assert {(block.page, reason) for block in BLOCKS for reason in _REASON.findall(block.code)} == NOT_RUN


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("block", of("sh"))
def test_commands_are_read_by_their_parsers(
    block: Block, parser: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ROOT
    for words in commands_of(block.code):
        if words[0] == "cd":
            folder = ROOT / words[1]
            assert folder.is_dir()
            continue
        with monkeypatch.context() as patch:
            patch.chdir(folder)
            patch.syspath_prepend(str(folder))
            try:
                check(words, parser, folder)
            except (SystemExit, argparse.ArgumentError):
                pytest.fail(f"{shlex.join(words)}: {capsys.readouterr().err}")


@pytest.mark.slow_after(3)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("block", of("yaml"))
def test_configs_are_built_over_the_defaults(
    block: Block, parser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = yaml.safe_load(block.code)
    env_id = settings.setdefault("data", {}).setdefault("env_id", "CartPole-v1")
    if env_id in NEEDS:
        pytest.importorskip(NEEDS[env_id])
    Path("config.yaml").write_text(yaml.safe_dump(settings))
    built = parser.instantiate_classes(parser.parse_args(["fit", "--config=config.yaml"])).fit
    assert type(built.model).__name__ == settings.get("model", {}).get("class_path", "DQN")
    built.model.check_sampler(built.data.sampler)
    observations = blank_observations(built.data.obs_shape, batch_size=2)
    values, _ = built.model.act_values(observations[0].numpy())
    assert values.shape == (2, built.data.n_actions)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("block", [block for block in of("python") if "docs/start.md" not in block.id])
def test_python_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if "lightning_logs/version_0" in block.code:
        small = ["--agent.warmup_env_steps=200", "--trainer.max_steps=2", "--trainer.enable_progress_bar=false"]
        assert seqrl("fit", "--data.env_id=seqrl/Sequence-v0", *small)[0] == 0
    exec(compile(block.code.replace("50_000", "1_200"), str(block), "exec"), {})


@pytest.mark.slow
def test_the_first_page_runs_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for block in BLOCKS:
        if block.page == "docs/start.md" and not _REASON.match(block.code):
            code = block.code.replace(
                "tensorboard --logdir", "tensorboard --inspect --logdir"
            )  # else it serves for ever
            (tmp_path / "config.yaml").write_text(code)
            command = {
                "sh": ["bash", "-e", "-c", code],
                "python": [sys.executable, "-c", code],
                "yaml": ["seqrl", "fit", "--config=config.yaml"],
            }[block.language]
            found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=300)
            assert found.returncode == 0, f"{block}: {found.stderr}"
    run = tmp_path / "lightning_logs" / "version_0"
    promised = ["config.yaml", "episodes.csv", "trials.csv", "probes.csv", "episodes.png", "episode.gif"]
    promised.append("checkpoints/last.ckpt")
    assert all((run / name).exists() for name in [*promised, "analysis/report.html"])


@pytest.mark.parametrize("page", FOR_DEVELOPERS, ids=lambda path: path.name)
def test_files_that_developers_are_sent_to_exist(page: Path) -> None:
    places = (ROOT, ROOT / "seqrl_lightning", ROOT / "seqrl_lightning" / "algorithms", ROOT / "docs")
    named = re.findall(r"`([\w./-]+(?:\.(?:py|md|yml|toml|txt)|/))`", page.read_text())
    assert len(named) > 5
    assert [name for name in named if not any((place / name).exists() for place in places)] == []


@pytest.mark.parametrize("page", PAGES + FOR_DEVELOPERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page: Path) -> None:
    text = _FENCED.sub("", page.read_text())
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
