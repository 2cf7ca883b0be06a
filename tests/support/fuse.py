"""A file system of one empty directory that this program serves by the kernel's FUSE protocol, as a network volume is served.

`python fuse.py DIRECTORY` mounts it there. Once the program is killed, every access fails: "transport endpoint is not connected".
"""

import ctypes
import os
import struct
import sys

_HEADER = struct.Struct("<IIQQIIII")  # length, operation, unique, node, uid, gid, pid, padding
_LOOKUP, _FORGET, _GETATTR, _SETATTR, _STATFS, _INIT, _BATCH_FORGET = 1, 2, 3, 4, 17, 26, 42
_OPENDIR, _READDIR, _RELEASEDIR, _INTERRUPT, _DESTROY = 27, 28, 29, 36, 38
_NO_SUCH_FILE, _NOT_IMPLEMENTED = 2, 38
_SILENT = {_FORGET, _BATCH_FORGET, _INTERRUPT, _DESTROY}
_MODE = 0o042770
"""As the kubelet leaves the directory of a volume: it belongs to the group `_GROUP`."""
_GROUP = 1000


def serve(directory: str) -> None:
    """Mount the file system and answer the kernel until the file system is unmounted."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode={_MODE:o},user_id=0,group_id=0,allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"stale", directory.encode(), b"fuse", 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), "mount")
    sys.stdout.write("mounted\n")
    sys.stdout.flush()
    while True:
        try:
            request = os.read(device, 1 << 17)
        except OSError:
            return
        _length, operation, unique, *_rest = _HEADER.unpack_from(request)
        if operation not in _SILENT:
            error, body = _answer(operation)
            os.write(device, struct.pack("<IiQ", 16 + len(body), -error, unique) + body)


def _answer(operation: int) -> tuple[int, bytes]:
    match operation:
        case x if x == _INIT:
            return 0, struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 0, 0, 1 << 16, 1, 0, 0, 0)
        case x if x in (_GETATTR, _SETATTR):
            attributes = struct.pack("<QQQQQQIIIIIIIIII", 1, 0, 0, 0, 0, 0, 0, 0, 0, _MODE, 2, 0, _GROUP, 0, 4096, 0)
            return 0, struct.pack("<QII", 0, 0, 0) + attributes
        case x if x == _STATFS:
            return 0, struct.pack("<QQQQQIIII24x", 1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 4096, 255, 4096, 0)
        case x if x == _OPENDIR:
            return 0, struct.pack("<QII", 1, 0, 0)
        case x if x in (_READDIR, _RELEASEDIR):
            return 0, b""
        case x if x == _LOOKUP:
            return _NO_SUCH_FILE, b""
        case _:
            return _NOT_IMPLEMENTED, b""


if __name__ == "__main__":
    serve(sys.argv[1])
