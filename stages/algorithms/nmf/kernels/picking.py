"""Some rows and columns of a CSR matrix, in one compiled call: scipy's own takes several."""

from stages.algorithms.nmf.kernels.compiling import compiled


@compiled
def pick(values, columns, starts, rows, places, numbers, into, ends):
    """Copy rows of a CSR matrix, and of them the columns that have a place.

    Parameters
    ----------
    values, columns, starts : flat
    rows : int64 [n]
    places : int32 [channels]
        The new number of each column; -1 for those that are left out.
    numbers, into, ends : flat, with room for all values of these rows; int64 [n + 1]
        Become the values, columns and starts of the result; the first of `ends` is 0.

    Returns
    -------
    int
        Values that were copied.
    """
    found = 0
    for r in range(len(rows)):
        row = rows[r]
        for at in range(starts[row], starts[row + 1]):
            place = places[columns[at]]
            if place >= 0:
                numbers[found] = values[at]
                into[found] = place
                found += 1
        ends[r + 1] = found
    return found
