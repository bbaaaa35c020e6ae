"""The handles and the pictures: a thin layer of widgets over an explorer."""

import html
from contextlib import contextmanager
from typing import Any

import ipywidgets as widgets
from PIL import ImageColor

from distill_lib.tools.explore.explorer import NEIGHBOURS, Explorer, Shown
from distill_lib.tools.explore.pictures import (
    GAP,
    IMAGE,
    MAP,
    SMALL,
    MapPicture,
    attention_strip,
    class_marks,
    enlarged,
    neighbour_strip,
    png,
    strip_width,
)
from distill_lib.tools.explore.state import State
from distill_lib.vision.encoders import STAGES

GLYPHS = {"o": "●", "^": "▲", "v": "▼", "D": "◆", "p": "⬟", "<": "◀", ">": "▶", "h": "⬢", "s": "■"}
LIKELIEST = 3  # classes whose probability is shown


class Panel(widgets.VBox):
    """Handles on the left, what they give on the right; each move of a handle encodes one image.

    Attributes:
        explorer: Who knows all.
        handles: The widgets that a person moves, by the state's names.
        pictures: Those that answer, by name.
        words: The text beside them.
        shown: What is there to see now.
    """

    def __init__(self, explorer: Explorer, state: State | None = None):
        self.explorer, self._settling, self._maps = explorer, False, {}
        state = (state or explorer.start()).fitted(explorer.bank.side)
        self.handles = _handles(explorer, state)
        near = min(NEIGHBOURS, len(explorer.bank.images) - 1)
        strips = {"attention": (strip_width(len(STAGES)), SMALL), "neighbours": (strip_width(near), SMALL)}
        sizes = {"image": (IMAGE, IMAGE), "map": (MAP, MAP), **strips}
        self.pictures = {name: _picture(name, *size) for name, size in sizes.items()}
        self.words = {name: widgets.HTML() for name in ("prediction", "attention", "neighbours", "status")}
        super().__init__([self._top(), self._bottom()])
        for handle in self.handles.values():
            handle.observe(self._moved, "value")
        self._moved()

    @property
    def state(self) -> State:
        """Where the handles stand."""
        values = {name: handle.value for name, handle in self.handles.items()}
        return State(**{**values, "colour": ImageColor.getrgb(values["colour"])[:3]})

    def _moved(self, change: Any = None) -> None:
        """A handle moved: the bounds follow the size, and all is drawn anew, once."""
        if self._settling:
            return
        with self._settled():
            for name in ("column", "row"):
                self.handles[name].max = self.explorer.bank.side - self.handles["size"].value
        with self._prepared(self.state.encoder):
            self._draw(self.explorer.show(self.state))

    @contextmanager
    def _settled(self):
        """Handles that are moved in here, by a bound and not by a person, draw nothing."""
        self._settling = True
        try:
            yield
        finally:
            self._settling = False

    @contextmanager
    def _prepared(self, encoder: str):
        """Say what the first look at an encoder waits for."""
        if not self.explorer.known(encoder):
            self.words["status"].value = "<i>Its head is trained and its map drawn: a few seconds, once.</i>"
            self.explorer.subject(encoder)
        yield
        if self.words["status"].value:
            self.words["status"].value = ""

    def _draw(self, shown: Shown) -> None:
        explorer, self.shown = self.explorer, shown
        name = shown.state.encoder
        if name not in self._maps:
            self._maps[name] = MapPicture(explorer.subject(name), explorer.bank)
        self.pictures["image"].value = png(enlarged(shown.image))
        self.pictures["map"].value = png(self._maps[name].drawn(shown))
        self.pictures["attention"].value = png(attention_strip(shown))
        self.pictures["neighbours"].value = png(neighbour_strip(shown, explorer.bank))
        self.words["prediction"].value = prediction_words(explorer, shown)
        self.words["attention"].value = attention_words(shown)
        self.words["neighbours"].value = neighbour_words(explorer, shown)

    def _top(self) -> widgets.Widget:
        parts = [*self.handles.values(), self.words["status"], self.words["prediction"]]
        handles = widgets.VBox(parts, layout=widgets.Layout(width="330px"))
        legend = widgets.HTML(legend_words(self.explorer))
        the_map = widgets.VBox([self.pictures["map"], legend])
        return _row([handles, self.pictures["image"], the_map])

    def _bottom(self) -> widgets.Widget:
        parts = [widgets.VBox([self.pictures[name], self.words[name]]) for name in ("attention", "neighbours")]
        return _row(parts)


def _handles(explorer: Explorer, state: State) -> dict[str, Any]:
    """The handles, by the names of `State`."""
    bank, last = explorer.bank, len(explorer.bank.images) - 1
    # A point of the map is chosen here: an image's number with its class.
    points = [(f"{row}: {bank.name(row)}", row) for row in range(last + 1)]
    place = {"min": 0, "max": bank.side - state.size}
    colour = "#{:02x}{:02x}{:02x}".format(*state.colour)
    handles = {
        "encoder": widgets.Dropdown(options=explorer.names, value=state.encoder, description="encoder"),
        "image": widgets.SelectionSlider(options=points, value=state.image, description="image"),
        "stamped": widgets.Checkbox(value=state.stamped, description="the square is on the image"),
        "column": widgets.IntSlider(state.column, **place, description="x"),
        "row": widgets.IntSlider(state.row, **place, description="y"),
        "size": widgets.IntSlider(state.size, min=1, max=bank.side // 2, description="size"),
        "colour": widgets.ColorPicker(value=colour, description="colour"),
    }
    for name, handle in handles.items():
        handle.add_class(f"explore-{name}")
    return handles


def _picture(name: str, width: int, height: int) -> widgets.Image:
    size = {"width": f"{width}px", "height": f"{height}px"}
    border = "1px solid #DDDDDD" if name == "map" else None
    picture = widgets.Image(format="png", layout=widgets.Layout(flex="0 0 auto", border=border, **size))
    picture.add_class(f"explore-picture-{name}")
    return picture


def _row(children: list[widgets.Widget]) -> widgets.Widget:
    return widgets.HBox(children, layout=widgets.Layout(flex_flow="row wrap", grid_gap="18px", margin="0 0 12px 0"))


# ---- words --------------------------------------------------------------------------------------------------------


def prediction_words(explorer: Explorer, shown: Shown) -> str:
    """What the head says, and of what it says it without the square."""
    bank = explorer.bank
    best = shown.probabilities.topk(min(LIKELIEST, len(bank.classes)))
    rows = [
        f"<tr><td>{_named(explorer, label)}</td><td>{_bar(p)}</td><td>{100 * p:.0f} %</td></tr>"
        for label, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    return (
        f"true class: <b>{html.escape(bank.name(shown.state.image))}</b><br>the head says:"
        f"<table>{''.join(rows)}</table>without the square: {_named(explorer, shown.without)}<br>"
        f"cosine with itself without it: {shown.kept:.2f}"
    )


def attention_words(shown: Shown) -> str:
    """The share of attention inside the square, stage by stage, against that of an even look."""
    parts = [f"{stage} <b>{share:.0f} %</b>" for stage, share in shown.shares.items()]
    inside = "inside the square" if shown.state.stamped else "where the square would be"
    return f"{_cells(parts)}<i>share of the attention {inside}; an even look would have {shown.area:.0f} %</i>"


def neighbour_words(explorer: Explorer, shown: Shown) -> str:
    """Classes and cosines of the neighbours."""
    bank = explorer.bank
    parts = [f"{_named(explorer, int(bank.labels[row]))}<br>{cosine:.2f}" for row, cosine in shown.neighbours]
    return f"{_cells(parts)}<i>nearest of {len(bank.images)} test images, by cosine</i>"


def legend_words(explorer: Explorer) -> str:
    """What the marks of the map are."""
    bank = explorer.bank
    marks = [
        f'<span style="white-space:nowrap"><span style="color:{colour}">{GLYPHS[shape]}</span> '
        f"{_named(explorer, label)}</span>"
        for label, (colour, shape) in class_marks(bank).items()
    ]
    ring = "× other images with the attacker's square; large ring: this image, small ring: without the square"
    return f'<div style="width:{MAP}px;line-height:1.3">{" ".join(marks)}<br><i>{ring}</i></div>'


def _named(explorer: Explorer, label: int) -> str:
    name = html.escape(explorer.bank.classes[label])
    return f"<b>{name}</b> (target)" if label == explorer.bank.target else name


def _bar(share: float) -> str:
    return f'<div style="background:#0072B2;height:10px;width:{round(90 * share)}px"></div>'


def _cells(parts: list[str]) -> str:
    """Captions under the tiles of a strip."""
    style = f"display:inline-block;width:{SMALL}px;margin-right:{GAP}px;line-height:1.2"
    style += ";vertical-align:top;white-space:normal"
    cells = "".join(f'<span style="{style}">{part}</span>' for part in parts)
    return f'<div style="white-space:nowrap;padding-left:3px">{cells}</div>'
