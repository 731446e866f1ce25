"""Whether a fax image in a TIFF has all its rows: libtiff fills what is missing or damaged, and says so to stderr alone.

ITU-T T.4 (group 3, in one and two dimensions) and T.6 (group 4), as TIFF 6.0 stores them. A row is the list of the columns where
its colour changes, the first from white to black; columns at its end that equal the width stand for nothing.
"""

from array import array
from collections.abc import Iterator, Sequence

import numpy as np

FAX_COMPRESSIONS = (_RLE, _GROUP_3, _GROUP_4, _RLE_WORDS) = (2, 3, 4, 32771)
"""Values of TIFF's tag 259."""

# The code words of T.4, tables 2 and 3: of runs of 0 to 63, then of 64, 128, ... 1728; of both colours, of 1792, 1856, ... 2560.
_WHITE_WORDS = """00110101 000111 0111 1000 1011 1100 1110 1111 10011 10100 00111 01000 001000 000011 110100 110101 101010 101011
0100111 0001100 0001000 0010111 0000011 0000100 0101000 0101011 0010011 0100100 0011000 00000010 00000011 00011010
00011011 00010010 00010011 00010100 00010101 00010110 00010111 00101000 00101001 00101010 00101011 00101100 00101101
00000100 00000101 00001010 00001011 01010010 01010011 01010100 01010101 00100100 00100101 01011000 01011001 01011010
01011011 01001010 01001011 00110010 00110011 00110100 11011 10010 010111 0110111 00110110 00110111 01100100 01100101
01101000 01100111 011001100 011001101 011010010 011010011 011010100 011010101 011010110 011010111 011011000 011011001
011011010 011011011 010011000 010011001 010011010 011000 010011011"""
_BLACK_WORDS = """0000110111 010 11 10 011 0011 0010 00011 000101 000100 0000100 0000101 0000111 00000100 00000111 000011000
0000010111 0000011000 0000001000 00001100111 00001101000 00001101100 00000110111 00000101000 00000010111 00000011000 000011001010
000011001011 000011001100 000011001101 000001101000 000001101001 000001101010 000001101011 000011010010 000011010011
000011010100 000011010101 000011010110 000011010111 000001101100 000001101101 000011011010 000011011011 000001010100
000001010101 000001010110 000001010111 000001100100 000001100101 000001010010 000001010011 000000100100 000000110111
000000111000 000000100111 000000101000 000001011000 000001011001 000000101011 000000101100 000001011010 000001100110
000001100111 0000001111 000011001000 000011001001 000001011011 000000110011 000000110100 000000110101 0000001101100
0000001101101 0000001001010 0000001001011 0000001001100 0000001001101 0000001110010 0000001110011 0000001110100
0000001110101 0000001110110 0000001110111 0000001010010 0000001010011 0000001010100 0000001010101 0000001011010
0000001011011 0000001100100 0000001100101"""
_LONG_WORDS = """00000001000 00000001100 00000001101 000000010010 000000010011 000000010100 000000010101 000000010110 000000010111
000000011100 000000011101 000000011110 000000011111"""
_MODE_WORDS = "0001 001 0000010 000010 010 1 011 000011 0000011"  # T.4, table 4: pass, horizontal, vertical from -3 to 3
_VERTICAL = 5  # the mode of a distance of 0


def fax_rows(
    data: bytes, *, width: int, num_rows: int, compression: int, options: int = 0, lowest_bit_first: bool = False
) -> Iterator[list[int]]:
    """Each row of a strip, `num_rows` in all; `options` are TIFF's tag 292, whose bit 0 means two dimensions.

    Raises ValueError where the data end early, hold no code word, or hold a row of another width.
    """
    bits = np.unpackbits(np.frombuffer(data + bytes(4), np.uint8), bitorder="little" if lowest_bit_first else "big")
    size = 8 * len(data)
    windows = np.zeros(size + 14, np.uint16)  # 13 bits from each bit on
    for shift in range(13):
        windows |= bits[shift : shift + len(windows)].astype(np.uint16) << 12 - shift
    window_at = array("H", windows.tobytes())
    stored_bits = bits.tobytes()
    alignment = {_RLE: 8, _RLE_WORDS: 16}.get(compression, 1)
    position, row, num_ends = 0, [width] * 4, 0
    for number in range(num_rows):
        is_2d = compression == _GROUP_4
        if compression == _GROUP_3 and window_at[position] < 4:  # eleven zeros or more, and a one, end the line before
            position = stored_bits.find(b"\1", position) + 1 or size
            is_2d = bool(options & 1) and not stored_bits[position]
            position += options & 1
            num_ends += number > 0
        try:
            position, row = _row_2d(window_at, position, row, width) if is_2d else _row_1d(window_at, position, width)
        except ValueError:
            row = []
        if not row or row[-1] != width or position > size:
            raise ValueError(f"the fax data end, or are damaged, in row {number + 1:,} of {num_rows:,}")
        yield row
        row = _without_empty_runs(row) + [width] * 4
        position += -position % alignment
    next_one = stored_bits.find(b"\1", position)
    if 0 < num_ends < num_rows - 1:
        raise ValueError(f"{num_rows - 1 - num_ends:,} of {num_rows:,} rows of fax data have no end")
    if position + 11 > next_one >= 0 and size - position > 16:
        raise ValueError(f"the fax data are damaged: {size - position:,} bits are left after row {num_rows:,}")


def _row_1d(window_at: Sequence[int], position: int, width: int) -> tuple[int, list[int]]:
    """The position after a row, and the row."""
    row: list[int] = []
    column = 0
    while column < width:
        position, run = _run(window_at, position, len(row) & 1)
        column += run
        row.append(column)
    return position, row


def _row_2d(window_at: Sequence[int], position: int, before: list[int], width: int) -> tuple[int, list[int]]:
    """As `_row_1d`, from the row before; in T.4's words `column` is a0, and `before[index]` is b1."""
    row: list[int] = []
    column, index = -1, 0
    while column < width:
        code = _MODES[window_at[position] >> 6]
        position += code & 15
        mode = code >> 4
        while before[index] <= column and before[index] < width:
            index += 2
        if mode >= 2:
            change = before[index] + mode - _VERTICAL
            if change <= column:
                raise ValueError
            row.append(change)
            column = change
            index = index + 1 if mode >= _VERTICAL else abs(index - 1)
        elif mode == 1:
            for _ in range(2):
                position, run = _run(window_at, position, len(row) & 1)
                column = max(column, 0) + run
                row.append(column)
        elif code:
            column = before[index + 1]
        else:
            raise ValueError
    if len(set(row)) + (row[-2:] == [width, width]) < len(row):
        raise ValueError  # an empty run, which ends a row at most; libtiff goes on with another row than T.6
    return position, row


def _run(window_at: Sequence[int], position: int, is_black: int) -> tuple[int, int]:
    """The position after a run, and its length in pixels; ValueError where there is no code word."""
    codes = _RUNS[is_black]
    length = 0
    while True:
        code = codes[window_at[position]]
        if not code:
            raise ValueError
        position += code & 15
        length += code >> 4
        if code < 64 << 4:
            return position, length


def _without_empty_runs(row: list[int]) -> list[int]:
    """The row without pairs of changes in the same column."""
    if len(set(row)) == len(row):
        return row
    kept: list[int] = []
    for column in row:
        if kept and kept[-1] == column:
            kept.pop()
        else:
            kept.append(column)
    return kept


def _codes(words: dict[int, str], num_bits: int) -> list[int]:
    """For each window of so many bits, 16 times the value of the word that it begins with plus the word's length; 0 for none."""
    codes = [0] * (1 << num_bits)
    for value, word in words.items():
        rest = num_bits - len(word)
        start = int(word, 2) << rest
        codes[start : start + (1 << rest)] = [value << 4 | len(word)] * (1 << rest)
    return codes


_LENGTHS = [*range(64), *range(64, 2561, 64)]
_RUNS = [
    _codes(dict(zip(_LENGTHS, (words + " " + _LONG_WORDS).split(), strict=True)), 13) for words in (_WHITE_WORDS, _BLACK_WORDS)
]
_MODES = _codes(dict(enumerate(_MODE_WORDS.split())), 7)
