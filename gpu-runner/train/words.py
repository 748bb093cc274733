"""The words of the picture language: the only place where a shape, a colour or a place has a name."""

from typing import Final

Rgb = tuple[int, int, int]

#: Shapes that differ in outline, not in detail: each is told from the others at a radius of 8 pixels.
SHAPES: Final = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "diamond")
PLURALS: Final = {shape: shape + ("es" if shape == "cross" else "s") for shape in SHAPES}

#: Chosen by us so that the nearest two are 80 levels apart: the evaluator reads colours back by distance.
COLOURS: Final[dict[str, Rgb]] = {
    "red": (214, 40, 40),
    "orange": (244, 140, 20),
    "yellow": (250, 220, 60),
    "green": (40, 160, 70),
    "cyan": (70, 205, 220),
    "blue": (40, 80, 220),
    "purple": (130, 50, 170),
    "pink": (245, 140, 200),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
}
#: Colours of scenes, which no object has.
GREY: Final[Rgb] = (125, 125, 130)
BROWN: Final[Rgb] = (120, 75, 40)
NAVY: Final[Rgb] = (15, 25, 75)
SKY: Final[Rgb] = (130, 195, 245)

SIZES: Final = ("small", "large")
#: Phrase to column and row, -1, 0 or 1 from the middle; y grows downwards as in the picture.
PLACES: Final[dict[str, tuple[int, int]]] = {
    "on the left": (-1, 0),
    "on the right": (1, 0),
    "at the top": (0, -1),
    "at the bottom": (0, 1),
    "in the middle": (0, 0),
    "in the top left": (-1, -1),
    "in the top right": (1, -1),
    "in the bottom left": (-1, 1),
    "in the bottom right": (1, 1),
}
NUMBERS: Final = {2: "two", 3: "three", 4: "four"}
#: Phrase between two objects to the step from the first to the second.
RELATIONS: Final[dict[str, tuple[int, int]]] = {
    "and": (1, 0),
    "left of": (1, 0),
    "right of": (-1, 0),
    "above": (0, 1),
    "below": (0, -1),
}
#: Skies of a scene: phrase to colour. Without a phrase it is day.
SKIES: Final[dict[str, Rgb]] = {"": SKY, "at sunset": COLOURS["orange"], "at night": NAVY}
SCENES: Final = ("sea", "mountains", "stars", "house")
