"""A search tree for a terminal: as it grows, and as it ended."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from flows.display import open_console
from models.search.tree import Node
from tasks.wording import shorten

MAX_CHILDREN = 4
"""Of a step, the most valued; the others are counted."""
MAX_DEPTH = 8
STEP_CHARS = 60


def draw_tree(root: Node) -> Tree:
    """The most valued steps below each step, with visits and value."""
    tokens = sum(node.num_tokens for node in root.walk())
    tree = Tree(Text(f"{root.visits} visits, {tokens:,} tokens"))
    _add(tree, root, 1)
    return tree


def _add(branch: Tree, node: Node, depth: int) -> None:
    ranked = sorted(node.children.values(), key=lambda child: (-child.value, -child.visits))
    for child in ranked[:MAX_CHILDREN]:
        ending = {"step": "", "end": " ■"}.get(child.stop_reason, f" ({child.stop_reason})")
        text = shorten(child.text, STEP_CHARS) + ending
        below = branch.add(Text(f"{text}  {child.visits} × {child.value:.2f}"))
        if depth < MAX_DEPTH:
            _add(below, child, depth + 1)
    if len(ranked) > MAX_CHILDREN:
        branch.add(Text(f"… {len(ranked) - MAX_CHILDREN} more"))


@dataclass
class TreeView:
    """Shows a growing tree in a terminal, and nothing elsewhere."""

    console: Console = field(default_factory=open_console)
    root: Node | None = None

    def show(self, root: Node) -> None:
        """The tree as it stands."""
        self.root = root

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Redraw what is shown, a few times a second; the last of it stays."""
        if not self.console.is_terminal or self.console.is_dumb_terminal:
            yield
            return
        with Live(console=self.console, get_renderable=self._draw, refresh_per_second=4, vertical_overflow="crop"):
            yield

    def _draw(self) -> Tree | Text:
        return draw_tree(self.root) if self.root is not None and self.root.children else Text("")
