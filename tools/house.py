"""Counts figures of the code's state, of this tree or of any revision.

`python -m tools.house` counts the tracked files as they are on disk, `python -m tools.house REV`
those of a revision, `python -m tools.house --against REV` puts both side by side. Every figure
comes from the text of the tracked files alone, so nothing of the revision is installed or run.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import tarfile
import tokenize
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]

_NOT_PRODUCT: Final = frozenset({"tests", "benchmarks", "tools"})
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
_DOCUMENTED: Final = (ast.Module, ast.ClassDef, *_FUNCTIONS)

OPENINGS: Final = re.compile(r"(?:Give|Say|Let|Take|Make sure)\b")
PHRASES: Final = re.compile(
    r"\b(?:is none|are none|is no (?!longer\b|more\b)[a-z]+|[Ww]hat has no|[Ss]ee there)\b"
)
LEAST_WORDS: Final = 4
"""Words that the first line of a docstring has at least."""

# Texts that people read besides docstrings: help of options, descriptions of settings and routes.
_TEXT_KEYWORDS: Final = frozenset({"help", "description", "summary", "meaning", "what_to_do"})

# Comments that speak to a tool give no reason to a reader.
_TO_TOOLS: Final = re.compile(r"#\s*(?:noqa|type:|fmt:|pragma)")

# The classes of confluent-kafka; AdminClient makes topics and is not counted.
_KAFKA_CLIENTS: Final = re.compile(r"\b(?:Consumer|Producer)\(")

# Whoever folds the control topic keeps lists or the activations of rules.
_FOLDS: Final = re.compile(r"= (?:ListFold|Activations)\(")

_DECISION: Final = frozenset(
    {
        *("outcome", "outcomes", "score", "probability", "reasons", "rules", "lists", "model"),
        *("versions", "policy_version", "features", "history", "shadow", "duplicate"),
        *("scored_at", "frauddetector_time", "proc_time", "ttdf", "source"),
    }
)
# Fewer are a selection (the shadow decision, a table of results), so many are its declaration.
_DECLARES_FIELDS: Final = 7

_BLOCK_LINES: Final = 6


class Text(NamedTuple):
    """Text for people, with its place.

    Attributes:
        place: `path:line`.
        text: The text itself.
    """

    place: str
    text: str

    @property
    def first_line(self) -> str:
        """The line that a list of modules or commands shows."""
        return self.text.partition("\n")[0]

    def __str__(self) -> str:
        return f"{self.place}: {self.first_line}"


def _constant_text(node: ast.expr) -> str:
    """Return a string, the constant parts of an f-string, or nothing."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "...".join(
        part.value
        for part in parts
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    )


@dataclass(frozen=True)
class House:
    """The tracked text files of one revision.

    Attributes:
        files: Text by path, relative to the project's folder.
    """

    files: Mapping[str, str]
    _trees: dict[str, ast.Module] = field(default_factory=dict)

    @cached_property
    def product(self) -> dict[str, str]:
        """Python files outside tests, benchmarks and tools."""
        return self._python(lambda package: package not in _NOT_PRODUCT)

    @cached_property
    def tests(self) -> dict[str, str]:
        """Python files below tests."""
        return self._python(lambda package: package == "tests")

    @cached_property
    def tools(self) -> dict[str, str]:
        """Python files below tools; what moves there from the product counts as kept."""
        return self._python(lambda package: package == "tools")

    @cached_property
    def benchmarks(self) -> dict[str, str]:
        """Python files below benchmarks."""
        return self._python(lambda package: package == "benchmarks")

    def _python(self, chosen: Callable[[str], bool]) -> dict[str, str]:
        return {
            path: text
            for path, text in self.files.items()
            if path.endswith(".py") and chosen(path.split("/")[0])
        }

    @cached_property
    def pages(self) -> dict[str, str]:
        """Markdown files of the whole tree."""
        return {path: text for path, text in self.files.items() if path.endswith(".md")}

    def tree(self, path: str) -> ast.Module:
        """Parse a Python file, once."""
        if path not in self._trees:
            self._trees[path] = ast.parse(self.files[path])
        return self._trees[path]

    def docstrings(self, paths: Iterable[str]) -> Iterator[Text]:
        """Return every docstring of the files."""
        for path in paths:
            for node in ast.walk(self.tree(path)):
                if isinstance(node, _DOCUMENTED) and (text := ast.get_docstring(node)):
                    yield Text(f"{path}:{node.body[0].lineno}", text)

    def messages(self, paths: Iterable[str]) -> Iterator[Text]:
        """Return the help texts, descriptions and error texts of the files.

        They are the constant parts of `help=` and the like, and of what a raised exception is
        called with.
        """
        for path in paths:
            for node in ast.walk(self.tree(path)):
                spoken: list[ast.expr] = []
                if isinstance(node, ast.Call):
                    spoken = [word.value for word in node.keywords if word.arg in _TEXT_KEYWORDS]
                elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                    spoken = node.exc.args
                for argument in spoken:
                    if text := _constant_text(argument):
                        yield Text(f"{path}:{argument.lineno}", text)


def read_house(revision: str | None = None) -> House:
    """Read the tracked Python and Markdown files.

    Args:
        revision: Of git; None for the files on disk.
    """
    if revision is None:
        listed = _git("ls-files", "*.py", "*.md").decode().splitlines()
        return House(
            {path: (ROOT / path).read_text("utf-8") for path in listed if (ROOT / path).exists()}
        )
    files = {}
    with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", revision))) as archive:
        for member in archive.getmembers():
            data = archive.extractfile(member) if member.isfile() else None
            if data is not None and member.name.endswith((".py", ".md")):
                files[member.name] = data.read().decode("utf-8")
    return House(files)


def _git(*arguments: str) -> bytes:
    return subprocess.check_output(["git", "-C", str(ROOT), *arguments])  # noqa: S607 - git of the path


def _lines(files: Mapping[str, str]) -> int:
    return sum(text.count("\n") for text in files.values())


def imports_in_functions(house: House) -> int:
    """Count import statements in functions; one in a nested function counts for both functions."""
    return sum(
        isinstance(inner, (ast.Import, ast.ImportFrom))
        for path in house.product
        for node in ast.walk(house.tree(path))
        if isinstance(node, _FUNCTIONS)
        for inner in ast.walk(node)
    )


def class_names_used_twice(house: House) -> list[str]:
    """Return the names of public classes, nested ones too, that several classes have."""
    places: dict[str, int] = defaultdict(int)
    for path in house.product:
        for node in ast.walk(house.tree(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name] += 1
    return sorted(name for name, count in places.items() if count > 1)


def kafka_clients(house: House) -> list[str]:
    """Return the files that build a Kafka consumer or producer, once for each place."""
    return [path for path, text in house.product.items() for _ in _KAFKA_CLIENTS.findall(text)]


def control_folds(house: House) -> list[str]:
    """Return the files that fold the control topic, wholly or in part."""
    return [path for path, text in house.product.items() if _FOLDS.search(text)]


def decision_declarations(house: House) -> list[str]:
    """Return the files in which one statement names seven or more fields of the decision.

    By the annotations of a class, the keys of a dict or the keywords of a call. The notifier is
    left out: an alert is a document of its own, made of some of a decision's fields.
    """
    found = []
    for path in house.product:
        if path.startswith("notifier/"):
            continue
        named = (_names(node) for node in ast.walk(house.tree(path)))
        if any(len(names & _DECISION) >= _DECLARES_FIELDS for names in named):
            found.append(path)
    return found


def _names(node: ast.AST) -> set[str]:
    match node:
        case ast.ClassDef():
            return {
                line.target.id
                for line in node.body
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
            }
        case ast.Dict():
            return {
                key.value
                for key in node.keys
                if isinstance(key, ast.Constant) and isinstance(key.value, str)
            }
        case ast.Call():
            return {keyword.arg for keyword in node.keywords if keyword.arg}
    return set()


def duplicate_blocks(house: House) -> int:
    """Count runs of six or more lines of code that occurred before.

    Lines are compared without indentation, with all literals alike; imports, comments, docstrings
    and lines of brackets alone do not count.
    """
    seen: dict[tuple[str, ...], tuple[str, int]] = {}
    blocks = 0
    for path in sorted(house.product):
        lines = _shapes(house.product[path], house.tree(path))
        is_in_block = False
        for start in range(len(lines) - _BLOCK_LINES + 1):
            window = tuple(lines[start : start + _BLOCK_LINES])
            where, first = seen.setdefault(window, (path, start))
            # A run of equal lines is no copy of itself.
            is_copy = where != path or start - first >= _BLOCK_LINES
            blocks += is_copy and not is_in_block
            is_in_block = is_copy
    return blocks


def _shapes(text: str, tree: ast.Module) -> list[str]:
    left_out: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            left_out.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    by_line: dict[int, list[str]] = defaultdict(list)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.STRING, tokenize.NUMBER):
            # A docstring is an expression that begins its line.
            is_docstring = token.line.lstrip().startswith(('"""', 'r"""'))
            by_line[token.start[0]].append("" if is_docstring else "literal")
        elif token.type in (tokenize.NAME, tokenize.OP):
            by_line[token.start[0]].append(token.string)
    shapes = (" ".join(parts) for line, parts in by_line.items() if line not in left_out)
    return [shape for shape in shapes if re.search("[a-z]", shape)]


def banned_openings(texts: Iterable[Text]) -> list[Text]:
    """Return the texts that open with a banned verb.

    511 was counted by a search for the verb and a space after three quotes; this finds one more,
    followed by a comma.
    """
    return [text for text in texts if OPENINGS.match(text.text)]


def banned_phrases(texts: Iterable[Text]) -> list[Text]:
    """Return every banned phrase, once for each time that a text has it."""
    return [Text(text.place, phrase) for text in texts for phrase in PHRASES.findall(text.text)]


def short_first_lines(texts: Iterable[Text]) -> list[Text]:
    """Return the texts whose first line is too short to stand alone."""
    return [text for text in texts if len(text.first_line.split()) < LEAST_WORDS]


def blocks_of_pages(house: House) -> list[Text]:
    """Return the headings, paragraphs and list items of the docs, each by its first line."""
    blocks = []
    for path, page in house.pages.items():
        begins = True
        for number, line in enumerate(page.splitlines(), 1):
            item = re.match(r"\s*(?:#+|[-*]|\d+\.)\s+(.*)", line)
            if item or (begins and line.strip()):
                blocks.append(Text(f"{path}:{number}", item[1] if item else line))
            begins = not line.strip() or line.startswith("#")
    return blocks


def lines_of_pages(house: House) -> list[Text]:
    """Return every line of the docs."""
    return [
        Text(f"{path}:{number}", line)
        for path, page in house.pages.items()
        for number, line in enumerate(page.splitlines(), 1)
    ]


def continued_headings(house: House) -> list[Text]:
    """Return the headings that the line below continues: it begins with a small letter."""
    return [
        Text(f"{path}:{page[: heading.start()].count(chr(10)) + 1}", heading[1])
        for path, page in house.pages.items()
        for heading in re.finditer(r"^(#+ .+)\n+[a-z]", page, re.MULTILINE)
    ]


def comments_per_100_lines(house: House) -> float:
    """Compute comments per 100 lines of product code; neither counts docstrings or blank lines."""
    comments = code = 0
    for path, text in house.product.items():
        lines: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                comments += not _TO_TOOLS.match(token.string)
            elif token.string.strip():
                lines.update(range(token.start[0], token.end[0] + 1))
        for node in ast.walk(house.tree(path)):
            if isinstance(node, _DOCUMENTED) and ast.get_docstring(node) is not None:
                docstring = node.body[0]
                lines.difference_update(
                    range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1)
                )
        code += len(lines)
    return 100 * comments / code if code else 0.0


def assertions(house: House) -> int:
    """Count assert statements and `pytest.raises` of the tests."""
    return sum(
        isinstance(node, ast.Assert)
        or (isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.raises")
        for path in house.tests
        for node in ast.walk(house.tree(path))
    )


def test_functions(house: House) -> int:
    """Count test functions; parametrised ones once."""
    return sum(
        isinstance(node, _FUNCTIONS) and node.name.startswith("test_")
        for path in house.tests
        for node in ast.walk(house.tree(path))
    )


def _all_phrases(house: House) -> list[Text]:
    docstrings = house.docstrings([*house.product, *house.tests])
    return banned_phrases([*docstrings, *lines_of_pages(house)])


ROWS: Final[Mapping[str, Callable[[House], int | float]]] = {
    "product lines": lambda house: _lines(house.product),
    "tools lines": lambda house: _lines(house.tools),
    "product files": lambda house: len(house.product),
    "test lines": lambda house: _lines(house.tests),
    "test functions": test_functions,
    "assertions in tests": assertions,
    "imports in functions": imports_in_functions,
    "public class names used twice": lambda house: len(class_names_used_twice(house)),
    "places that build a Kafka client": lambda house: len(kafka_clients(house)),
    "folds of the control topic": lambda house: len(control_folds(house)),
    "declarations of the decision": lambda house: len(decision_declarations(house)),
    "duplicate blocks": duplicate_blocks,
    "README words": lambda house: len(house.files["README.md"].split()),
    "banned openings, product": lambda house: len(banned_openings(house.docstrings(house.product))),
    "banned openings, tests": lambda house: len(banned_openings(house.docstrings(house.tests))),
    "banned openings, docs": lambda house: len(banned_openings(blocks_of_pages(house))),
    "banned phrases": lambda house: len(_all_phrases(house)),
    "first lines under four words": lambda house: len(
        short_first_lines(house.docstrings(house.product))
    ),
    "continued headings": lambda house: len(continued_headings(house)),
    "comments per 100 lines of code": lambda house: round(comments_per_100_lines(house), 1),
}

DETAILS: Final[Mapping[str, Callable[[House], Iterable[object]]]] = {
    "public class names used twice": class_names_used_twice,
    "places that build a Kafka client": kafka_clients,
    "folds of the control topic": control_folds,
    "declarations of the decision": decision_declarations,
    "banned openings, docs": lambda house: banned_openings(blocks_of_pages(house)),
    "banned phrases": _all_phrases,
    "first lines under four words": lambda house: short_first_lines(
        house.docstrings(house.product)
    ),
}


def main(arguments: list[str] | None = None) -> None:
    """Print the table of figures."""
    parser = argparse.ArgumentParser(prog="python -m tools.house", description=__doc__)
    parser.add_argument("revision", nargs="?", help="count this revision instead of the tree")
    parser.add_argument("--against", metavar="REV", help="put this revision in front")
    parser.add_argument("--details", action="store_true", help="name what was counted")
    chosen = parser.parse_args(arguments)
    revisions = [chosen.against, chosen.revision] if chosen.against else [chosen.revision]
    houses = {revision or "now": read_house(revision) for revision in revisions}
    width = max(map(len, ROWS))
    print(" " * width, *(f"{title[:12]:>12}" for title in houses))
    for row, count in ROWS.items():
        print(f"{row:{width}}", *(f"{count(house):>12,}" for house in houses.values()))
    if chosen.details:
        for title, house in houses.items():
            for row, found in DETAILS.items():
                print(f"\n{title}, {row}:", *found(house), sep="\n  ")


if __name__ == "__main__":
    main()
