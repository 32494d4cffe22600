"""Which files are images: by their suffix, or by how their content begins."""

from importlib.util import find_spec
from pathlib import Path

# HEIC needs a decoder that Pillow does not bring; it is used where it is installed.
HEIF = find_spec("pillow_heif") is not None
HEIF_SUFFIXES = frozenset((".heic", ".heif", ".hif"))
HEIF_REMEDY = "pip install 'dff-pipeline[heic]' to read them, or convert them"
_IMAGES = (
    ".jpg .jpeg .jpe .jfif .jif .pjpeg .pjp .png .apng .webp .bmp .dib .gif .tif .tiff "
    ".ppm .pgm .pbm .pnm .jp2 .j2k .jpx .jpf .j2c .jpc .avif .avifs .tga .pcx .mpo"
)
IMAGE_SUFFIXES = frozenset(_IMAGES.split()) | (HEIF_SUFFIXES if HEIF else frozenset())
# What keeps every pixel's value, as an annotation must.
LOSSLESS_SUFFIXES = frozenset(
    ".png .apng .bmp .dib .gif .tif .tiff .ppm .pgm .pbm .pnm .tga .pcx .webp".split()  # noqa: SIM905
)
_RAW = (
    ".cr2 .cr3 .crw .nef .nrw .arw .sr2 .srf .dng .raf .orf .rw2 .rwl .pef .srw .3fr .erf .kdc "
    ".mrw .x3f .iiq .raw"
)
_DOCUMENTS = ".pdf .doc .docx .ppt .pptx .odt .indd"
_FILMS = ".mov .mp4 .m4v .avi .mkv .webm .mpg .mpeg .3gp .mts .wmv"
_COPIES = ".bak .orig .old .tmp .temp"
_UNFINISHED = ".crdownload .part .partial .download .filepart"
_ARCHIVES = ".zip .tar .gz .tgz .7z .rar"
# What looks like a photograph to a person and is not read as one, and what to do about it.
REMEDIES = {
    **({} if HEIF else dict.fromkeys(HEIF_SUFFIXES, HEIF_REMEDY)),
    **dict.fromkeys(_RAW.split(), "a camera's raw file: export them as JPEG"),
    **dict.fromkeys(_FILMS.split(), "a film: export its frames"),
    **dict.fromkeys(_COPIES.split(), "a copy that a program keeps: rename them to use them"),
    **dict.fromkeys(_UNFINISHED.split(), "an unfinished download"),
    **dict.fromkeys(_ARCHIVES.split(), "an archive: unpack it"),
    **dict.fromkeys(_DOCUMENTS.split(), "a document: export its pictures"),
    ".jxl": "JPEG XL: convert them",
    ".svg": "a drawing of lines: export it as PNG",
    ".eps": "a drawing of lines: export it as PNG",
    ".psd": "a document of layers: export it as PNG",
    ".psb": "a document of layers: export it as PNG",
    ".xcf": "a document of layers: export it as PNG",
    ".exr": "a format that is not read: export it as PNG",
    ".hdr": "a format that is not read: export it as PNG",
    ".json": "if it is labelme's, move it into the folder of parts",
    ".thm": "a camera's thumbnail of a film",
}
# How the content of common formats begins.
_MAGIC = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"BM",
    b"II*\0",  # TIFF
    b"MM\0*",
    *(b"P%d" % kind for kind in range(1, 7)),
    b"\0\0\0\x0cjP  ",  # JPEG 2000
)


def looks_like_image(path: Path) -> bool:
    """Whether a file begins as an image does; False for one that cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:
        return False
    riff = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    avif = head[4:12] in (b"ftypavif", b"ftypavis")
    heif = HEIF and head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1")
    return riff or avif or heif or head.startswith(_MAGIC)
