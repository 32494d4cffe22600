"""What painting pictures of concepts holds in memory: report and transform count it alike."""

from stages.frame.memory import Needs, resident
from stages.images.decode import DECODE_BYTES

# Per value of an entry's maps: as stored, their bits, as shares, and interpolated columns.
VALUE_BYTES = 2 + 1 + 4 + 4
# Per pixel and column of a picture: shares and strengths of raw and refined maps, and temporaries.
PICTURE_BYTES = 6 * 4
# Per pixel of a picture: the photograph in several forms, and what outlines are drawn with.
PHOTO_BYTES = 60


def picture_needs(photograph: int, maps: int, picture: int, columns: int) -> Needs:
    """What painting takes; a worker is an image with all of its pictures.

    Parameters
    ----------
    photograph, maps, picture : int
        Pixels of the largest photograph, of its maps, and of a picture.
    columns : int
        Of the maps.
    """
    return Needs(
        fixed={"libraries": resident("numba", "stages.drawing.painting")},
        each={
            "the largest photograph": photograph * DECODE_BYTES,
            "its maps": 2 * maps * columns * VALUE_BYTES,
            "its pictures": picture * (columns * PICTURE_BYTES + PHOTO_BYTES),
        },
        remedy="make the largest photographs smaller, ask for fewer k and seeds",
    )
