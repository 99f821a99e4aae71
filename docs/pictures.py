"""Draws `tail.svg` and `top.svg` anew: ``python docs/pictures.py``."""

import re
from io import StringIO
from pathlib import Path
from random import Random

from rich.console import Console, RenderableType
from rich.text import Text

from vizpipe_trio import Event, StageInfo
from vizpipe_trio._demo import STAGES
from vizpipe_trio._show import Board, event_line
from vizpipe_trio.testing import make_event

SUBJECTS = ("how do loops end", "what is a nursery", "cancel scopes", "typing of decorators")


def main() -> None:
    """Draw both."""
    random = Random(4)
    events = [made_up(random, number) for number in range(300)]
    draw("tail", "vizpipe tail http://127.0.0.1:8000", Text("\n").join(map(event_line, events[:14])))
    board = Board()
    for number, event in enumerate(events):
        board.add(event, number / 30)
    draw("top", "vizpipe top http://127.0.0.1:8000", board.render(10.0, "http://127.0.0.1:8000"))


def made_up(random: Random, number: int) -> Event:
    """Return an event of a pipeline like the demo's."""
    answered_by = random.choices(range(len(STAGES)), (1, 30, 15, 30, 14, 10))[0]
    stages = [
        StageInfo(
            place + 1,
            name,
            random.expovariate(1 / average_ms) if place <= answered_by else 0.0,
            hit=place == answered_by,
        )
        for place, (name, average_ms) in enumerate(STAGES.items())
    ]
    return make_event(
        number,
        subject=random.choice(SUBJECTS),
        status="DENIED" if answered_by == 0 else random.choice(("ALLOWED", "ALLOWED", "FILTERED")),
        total_ms=sum(stage.ms for stage in stages),
        stages=stages,
    )


def draw(name: str, title: str, picture: RenderableType) -> None:
    """Write a picture, without the font that rich would have fetched from another host."""
    console = Console(file=StringIO(), record=True, width=112, force_terminal=True, color_system="truecolor")
    console.print(picture)
    svg = re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title=title), flags=re.DOTALL)
    Path(__file__).with_name(f"{name}.svg").write_text(svg)


if __name__ == "__main__":
    main()
