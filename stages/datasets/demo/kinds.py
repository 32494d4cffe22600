"""The catalogue: every kind of scene, as a recipe of interchangeable features.

The kinds beyond the demo sets exist so that a classifier has to look at each part: a deer's head
stands on an elephant's legs in one kind and on a cat's paws in another, so that neither the head
nor the legs alone give the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from stages.datasets.demo.canvas import Piece
from stages.datasets.demo.creatures import Bird, Fish, Robot, bird, fish, robot
from stages.datasets.demo.quadrupeds import Quadruped, quadruped
from stages.datasets.demo.vehicles import Car, Plane, car, plane


@dataclass(frozen=True)
class Recipe:
    """How to draw a kind: its pieces, its parts in a fixed order, and where it lives."""

    build: Callable[[np.random.Generator], list[Piece]]
    parts: tuple[str, ...]
    setting: str  # land, sky, water, any
    tilt: float  # largest rotation of the whole object, radians


def _beast(head: str, legs: str, tail: str, torso: str = "sleek", neck: float = 0.28) -> Recipe:
    species = Quadruped(head, legs, tail, torso, neck)
    parts = ("head", "torso", "legs", "tail")
    return Recipe(partial(quadruped, species=species), parts, "land", 0.1)


def _bird(beak: str, legs: str, tail: str, neck: float = 0.12) -> Recipe:
    species = Bird(beak, legs, tail, neck)
    parts = ("head", "body", "wing", "tail", "legs")
    return Recipe(partial(bird, species=species), parts, "land", 0.1)


def _robot(head: str, hands: str, base: str) -> Recipe:
    model = Robot(head, hands, base)
    return Recipe(partial(robot, model=model), ("head", "torso", "arms", "legs"), "land", 0.12)


def _fish(snout: str, tail: str, fins: str) -> Recipe:
    species = Fish(snout, tail, fins)
    return Recipe(partial(fish, species=species), ("head", "body", "tail", "fins"), "water", 0.5)


def _car(shell: str, wheels: str) -> Recipe:
    model = Car(shell, wheels)
    return Recipe(partial(car, model=model), ("body", "wheels", "windows"), "land", 0.07)


def _plane(engine: str, wings: str, tail: str) -> Recipe:
    model = Plane(engine, wings, tail)
    return Recipe(partial(plane, model=model), ("fuselage", "wings", "tail", "engines"), "sky", 0.5)


RECIPES: dict[str, Recipe] = {
    "empty": Recipe(lambda rng: [], (), "any", 0.0),
    # Four-legged, and their chimeras.
    "deer": _beast("antlers", "hoof", "puff"),
    "elephant": _beast("trunk", "pillar", "tuft", neck=0.16),
    "cat": _beast("cat", "paw", "tuft", neck=0.18),
    "horse": _beast("horse", "hoof", "bushy", neck=0.38),
    "ram": _beast("horns", "hoof", "puff", "woolly", 0.22),
    "elk_paw": _beast("antlers", "paw", "bushy"),
    "elk_pillar": _beast("antlers", "pillar", "tuft", "woolly"),
    "trunk_hoof": _beast("trunk", "hoof", "puff", neck=0.16),
    "trunk_paw": _beast("trunk", "paw", "bushy", "woolly", 0.16),
    "cat_hoof": _beast("cat", "hoof", "bushy", neck=0.3),
    "cat_pillar": _beast("cat", "pillar", "puff", "woolly", 0.18),
    "horse_paw": _beast("horse", "paw", "puff", "woolly", 0.38),
    "horse_pillar": _beast("horse", "pillar", "tuft", neck=0.38),
    "ram_paw": _beast("horns", "paw", "tuft", neck=0.22),
    "ram_pillar": _beast("horns", "pillar", "bushy", neck=0.22),
    # Birds.
    "sparrow": _bird("cone", "perch", "fan"),
    "heron": _bird("spear", "stilts", "fan", 0.35),
    "parrot": _bird("hook", "perch", "long"),
    "duck": _bird("flat", "web", "fan", 0.2),
    "cone_web": _bird("cone", "web", "long"),
    "cone_stilts": _bird("cone", "stilts", "long"),
    "spear_web": _bird("spear", "web", "fan", 0.15),
    "hook_stilts": _bird("hook", "stilts", "fan"),
    "flat_perch": _bird("flat", "perch", "long"),
    # Robots.
    "robot_box": _robot("box", "claw", "feet"),
    "robot_dome": _robot("dome", "ball", "feet"),
    "robot_screen": _robot("screen", "hammer", "feet"),
    "robot_box_wheels": _robot("box", "ball", "wheels"),
    "robot_dome_wheels": _robot("dome", "hammer", "wheels"),
    "robot": _robot("screen", "claw", "tracks"),
    "robot_box_tracks": _robot("box", "hammer", "tracks"),
    "robot_screen_wheels": _robot("screen", "ball", "wheels"),
    # Fish.
    "fish": _fish("round", "fan", "spiny"),
    "swordfish": _fish("sword", "fork", "sail"),
    "lanternfish": _fish("lantern", "fan", "sail"),
    "fish_fork": _fish("round", "fork", "sail"),
    "lantern_fork": _fish("lantern", "fork", "spiny"),
    "sword_fan": _fish("sword", "fan", "spiny"),
    # Vehicles.
    "car": _car("car", "disc"),
    "car_spokes": _car("car", "spokes"),
    "pickup": _car("pickup", "tractor"),
    "pickup_disc": _car("pickup", "disc"),
    "van": _car("van", "spokes"),
    "van_tractor": _car("van", "tractor"),
    "bus": _car("bus", "disc"),
    "bus_spokes": _car("bus", "spokes"),
    "plane": _plane("propeller", "straight", "cross"),
    "jet": _plane("jets", "swept", "high"),
    "plane_jets": _plane("jets", "straight", "cross"),
    "propeller_swept": _plane("propeller", "swept", "cross"),
    "propeller_high": _plane("propeller", "straight", "high"),
}
