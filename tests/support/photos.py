"""Photos of any size, written without an image library."""

import struct


def photo(width: int, height: int, orientation: int = 1) -> bytes:
    """Return a grey JPEG with that EXIF orientation and half the resolution for the colours, as cameras write it.

    Width and height are multiples of 32. The file is small: every coefficient is zero, which takes one bit.
    """
    assert width % 32 == height % 32 == 0
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    components = bytes([1, 0x22, 0, 2, 0x11, 0, 3, 0x11, 0])
    one_code_of_one_bit = bytes([1, *[0] * 15, 0])
    squares = (width // 16) * (height // 16)
    return b"".join(
        [
            b"\xff\xd8",
            _segment(0xE1, b"Exif\0\0" + tiff),
            _segment(0xDB, bytes([0, *[1] * 64])),
            _segment(0xC0, struct.pack(">BHHB", 8, height, width, 3) + components),
            _segment(0xC4, b"\x00" + one_code_of_one_bit),
            _segment(0xC4, b"\x10" + one_code_of_one_bit),
            _segment(0xDA, bytes([3, 1, 0, 2, 0, 3, 0, 0, 63, 0])),
            bytes(squares * 6 * 2 // 8),  # six blocks of two codes each
            b"\xff\xd9",
        ]
    )


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content
