"""Folders of photographs from the wild: one line a case, what is used of it and what is said."""

import struct
import sys
import unicodedata
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.transform import usual_folder
from stages.artifacts.image_index import ImageIndex
from stages.datasets import READERS, DatasetError
from stages.frame.execute import execute
from stages.frame.resources import Resources
from stages.images.decode import ImageError, decode_rgb
from stages.images.formats import HEIF
from stages.index.params import IndexParams
from stages.index.stage import INDEX
from tools import ROOT, shell, small_project
from wild import (
    OBJECT,
    SIZE,
    Build,
    chunk,
    exif,
    link,
    mask,
    photo,
    pipe,
    save,
    shapes,
    text,
    unix_socket,
    voc,
    with_chunk,
    with_segment,
)  # fmt: skip


@dataclass
class Case:
    """A folder with at least ``s/a.jpg``, and what must come of it.

    Attributes
    ----------
    build : callable
        Adds to the folder.
    images : set of str
        Names of the images that must be there besides ``s/a.jpg``.
    unused : dict of name to a piece of the reason
    annotated : set of str
        Names of images that have an annotation.
    said : str
        A piece of what stands on standard error.
    refused : str
        A piece of the one line that ends the run.
    """

    build: Build
    images: set[str] = field(default_factory=set)
    unused: dict[str, str] = field(default_factory=dict)
    annotated: set[str] = field(default_factory=set)
    said: str = ""
    refused: str = ""
    sets: tuple[str, ...] = ()


def all_of(*builds: Build) -> Build:
    return lambda root: [build(root) for build in builds]


def photos(*names: str, kind: str = "") -> Build:
    return lambda root: [photo(root / name, kind=kind, seed=i) for i, name in enumerate(names, 1)]


def masks(*names: str) -> Build:
    return lambda root: [mask(root / name) for name in names]


def texts(*names: str, content: str | bytes = "x") -> Build:
    return lambda root: [text(root / name, content) for name in names]


def two_masks(root: Path) -> None:
    mask(root / "masks/s/a.png")
    save(root / "masks/s/a.bmp", 255 * OBJECT)


def mistyped(folder: str) -> Build:
    """Masks of two photographs in a folder of another name than `masks`."""
    return all_of(photos("s/b.jpg"), masks(f"{folder}/s/a.png", f"{folder}/s/b.png"))


def soft(root: Path) -> None:
    """Masks with soft edges."""
    photo(root / "s/b.jpg")
    for name in "ab":
        grey = Image.fromarray((255 * np.kron(OBJECT, np.ones((8, 8)))).astype(np.uint8))
        (root / "matte").mkdir(exist_ok=True)
        grey.resize((72, 48), Image.Resampling.BICUBIC).save(root / f"matte/{name}.png")


def icons(root: Path) -> None:
    """Drawings of few colours in two sets, with the same names."""
    for name in ("up/0.png", "up/1.png", "down/0.png", "down/1.png"):
        save(root / name, 200 * (OBJECT if "up" in name else ~OBJECT))


def big_text(kind: bytes, content: bytes, behind: bool = False) -> Build:
    return lambda root: with_chunk(photo(root / "s/b.png"), chunk(kind, content), behind=behind)


def jpeg_with(marker: int, content: bytes) -> Build:
    return lambda root: with_segment(photo(root / "s/b.jpg"), marker, content)


def broken_tag(root: Path) -> None:
    """A camera's name that lies far behind the end of the file."""
    path = photo(root / "s/b.tif")
    tags = Image.Exif()
    tags[0x10F] = "Canon and so on"
    Image.open(path).save(path, exif=tags)
    data = path.read_bytes()
    at = data.index(struct.pack("<HH", 0x10F, 2)) + 8
    path.write_bytes(data[:at] + b"\xf0\xff\xff\xff" + data[at + 4 :])


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


ZEROS = zlib.compress(bytes(30_000_000), 9)
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)

CASES: dict[str, Case] = {
    # -- suffixes and contents
    "jfif": Case(photos("s/b.jfif", kind="JPEG"), {"s/b.jfif"}),
    "browsers' and scanners' JPEG": Case(photos("s/b.pjpeg", "s/c.JPE", kind="JPEG"), {"s/b.pjpeg", "s/c.JPE"}),
    "no suffix": Case(photos("s/b", "s/IMG 2019", kind="JPEG"), {"s/b", "s/IMG 2019"}),
    "a dot that begins no suffix": Case(photos("s/2019.12.24", kind="PNG"), {"s/2019.12.24"}),
    "Twitter's suffix": Case(photos("s/b.jpg_large", "s/b.jpg!d", kind="JPEG"), {"s/b.jpg_large", "s/b.jpg!d"}),
    "wrong suffix": Case(photos("s/b.png", kind="JPEG"), {"s/b.png"}),
    "no suffix and no image": Case(texts("s/LICENSE", "s/Makefile"), unused={"s/LICENSE": "not an image", "s/Makefile": "not an image"}, said="2 files left out: 2 without suffix"),
    "BM is how some words begin": Case(texts("s/notes", content="BMW, P6, GIF89a"), unused={"s/notes": "not an image"}),
    "raw files": Case(texts("s/b.NEF", "s/c.cr2", "s/d.DNG"), unused={"s/b.NEF": "export them as JPEG", "s/c.cr2": "raw", "s/d.DNG": "raw"}, said="3 files left out"),
    "films of a phone": Case(texts("s/b.MOV", "s/c.mp4"), unused={"s/b.MOV": "a film", "s/c.mp4": "a film"}),
    "layers and lines": Case(texts("s/b.psd", "s/c.svg"), unused={"s/b.psd": "layers", "s/c.svg": "lines"}),
    "unfinished download": Case(photos("s/b.jpg.crdownload", "s/c.part", kind="JPEG"), unused={"s/b.jpg.crdownload": "unfinished", "s/c.part": "unfinished"}),
    "backups": Case(photos("s/b.jpg~", "s/c.jpg.bak", kind="JPEG"), unused={"s/b.jpg~": "a copy", "s/c.jpg.bak": "a copy"}),
    "Lightroom's sidecars": Case(texts("s/a.xmp", "Catalog Previews.lrdata/x.db"), unused={"s/a.xmp": "not an image", "Catalog Previews.lrdata": "made by a system"}),
    "labelme beside the photograph": Case(lambda root: shapes(root / "s/a.json"), unused={"s/a.json": "folder of parts"}),
    "hidden": Case(photos("s/.b.jpg", ".c/d.jpg"), unused={"s/.b.jpg": "hidden"}),
    "macOS's own": Case(texts("s/._a.jpg", "s/.DS_Store")),
    "a line end in a name": Case(texts("s/b\nc.txt"), unused={"s/b\nc.txt": "not an image"}, said="1 file left out: 1 .txt"),
    # -- names of masks
    **{
        f"mask named {name}": Case(masks(f"masks/s/{name}"), annotated={"s/a.jpg"})
        for name in ("a.PNG", "A.png", "a_mask.png", "a-seg.PNG", "mask_a.png", "a.jpg.png", "a_GT.png", "a.bmp", "a.tif", "a.TIFF", "a.gif", "a.pgm", "a.webp")
    },
    "Masks in capitals": Case(masks("Masks/S/a.png"), annotated={"s/a.jpg"}),
    "a name in two forms of Unicode": Case(
        all_of(photos(nfd("s/Überfluß é.jpg")), masks("masks/s/Überfluß é.png")),
        {nfd("s/Überfluß é.jpg")}, annotated={nfd("s/Überfluß é.jpg")}),
    "parts in capitals": Case(masks("parts/s/A/Head.PNG", "parts/s/A/leg.bmp"), annotated={"s/a.jpg"}),
    "labelme in capitals": Case(lambda root: shapes(root / "parts/s/a.JSON"), annotated={"s/a.jpg"}),
    "masks of nothing": Case(masks("masks/s/a.png", "masks/s/x.png", "masks/t/a.png"), unused={"masks/s/x.png": "no image", "masks/t/a.png": "no image"}, annotated={"s/a.jpg"}, said="2 annotations belong to no image: masks/s/x.png, masks/t/a.png"),
    "some without a mask": Case(all_of(photos("s/b.jpg", "s/c.jpg"), masks("masks/s/b.png")), {"s/b.jpg", "s/c.jpg"}, annotated={"s/b.jpg"}, said="images with an annotation: s 1/3"),
    "no mask among masks": Case(all_of(masks("masks/s/a.png"), texts("masks/s/readme.txt")), unused={"masks/s/readme.txt": "not an image"}, annotated={"s/a.jpg"}),
    "parts of nothing": Case(masks("parts/x.png", "parts/s/_mask.png", "parts/s/b/head.png"), unused=dict.fromkeys(("parts/x.png", "parts/s/_mask.png", "parts/s/b/head.png"), "no image")),
    # -- names that mean two
    "one mask for two images": Case(all_of(photos("s/a.png"), masks("masks/s/a.png")), {"s/a.png"}, {"masks/s/a.png": "may belong to s/a.jpg or s/a.png"}),
    "two images, two masks": Case(all_of(photos("s/a.png"), masks("masks/s/a.jpg.png", "masks/s/a.png.png")), {"s/a.png"}, annotated={"s/a.jpg", "s/a.png"}),
    "two masks for one image": Case(two_masks, unused={"masks/s/a.png": "as s/a.bmp does", "masks/s/a.bmp": "as s/a.png does"}, said="2 annotations not used"),
    "case alone": Case(all_of(photos("s/A.jpg"), masks("masks/s/a.png")), {"s/A.jpg"}, annotated={"s/a.jpg"}),
    "one part twice": Case(masks("parts/s/a/head.png", "parts/s/a/head.tif", "parts/s/a/leg.png"), unused={"parts/s/a/head.png": "keep one", "parts/s/a/head.tif": "keep one"}),
    # -- what machines make
    "Synology": Case(photos("s/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "@eaDir/b.jpg"), unused={"s/@eaDir": "made by a system", "@eaDir": "made by a system"}),
    "recycle bins": Case(photos("$RECYCLE.BIN/S-1/b.jpg", "#recycle/b.jpg", "RECYCLER/b.jpg", "lost+found/b.jpg"), unused=dict.fromkeys(("$RECYCLE.BIN", "#recycle", "RECYCLER", "lost+found"), "made by a system")),
    "archives of a Mac": Case(photos("__MACOSX/s/b.jpg", "Photos.photoslibrary/x/b.jpg"), unused={"__MACOSX": "made by a system", "Photos.photoslibrary": "made by a system"}),
    "Windows": Case(texts("s/Thumbs.db", "desktop.ini"), unused={"s/Thumbs.db": "made by a system", "desktop.ini": "made by a system"}),
    "machines among masks": Case(all_of(masks("masks/s/a.png"), photos("masks/@eaDir/a.png")), unused={"masks/@eaDir": "made by a system"}, annotated={"s/a.jpg"}),
    "beside images/": Case(all_of(photos("images/s/b.jpg", "t/c.jpg")), {"images/s/b.jpg"}, {"t": "beside the folder images/", "s": "beside the folder images/"}),
    # -- masks that would become photographs
    **{
        f"masks in {folder}/": Case(mistyped(folder), refused=f"set index.folder.masks: {folder}")
        for folder in ("mask", "annotations", "SegmentationClass", "gt")
    },
    "masks with soft edges": Case(soft, refused="set index.folder.masks: matte"),
    "masks beside their photographs": Case(all_of(photos("s/b.jpg"), masks("s/a_mask.png", "s/b_mask.png")), refused="move such masks into the folder masks/"),
    "masks in each set": Case(all_of(photos("s/b.jpg"), masks("s/masks/a.png", "s/masks/b.png")), refused="s/masks/a.png looks like the mask of s/a.jpg, not like a photograph: move such masks into"),
    "masks below images/": Case(all_of(photos("images/s/b.jpg"), masks("images/mask/b.png")), refused="move such masks into the folder masks/"),
    "masks that were asked for": Case(mistyped("mask"), {"mask/s/a.png", "mask/s/b.png", "s/b.jpg"}, sets=("mask", "s")),
    "drawings are no masks": Case(icons, {"up/0.png", "up/1.png", "down/0.png", "down/1.png"}),
    "photographs of one name": Case(photos("t/a.png", "u/a.png"), {"t/a.png", "u/a.png"}),
    # -- links and what is no file
    "two links to one folder": Case(all_of(lambda root: photo(root.parent / "far/b.jpg"), lambda root: [link(root / name, root.parent / "far") for name in ("t", "u")]), {"t/b.jpg", "u/b.jpg"}),
    "Images in capitals": Case(all_of(photos("Images/s/b.jpg"), masks("MASKS/s/b.png")), {"Images/s/b.jpg"}, {"s": "beside the folder Images/"}, {"Images/s/b.jpg"}),
    "a set in the other form of Unicode": Case(photos(nfd("é/b.jpg")), {nfd("é/b.jpg")}, sets=("s", "é")),
    "links in a circle": Case(lambda root: [link(root / "s/up", root), link(root / "s/self", root / "s")], unused={"s/up": "it lies in", "s/self": "it lies in"}),
    "a link to nothing": Case(lambda root: link(root / "s/b.jpg", "gone.jpg"), unused={"s/b.jpg": "a link to nothing"}),
    "a link to itself": Case(lambda root: link(root / "s/b.jpg", "b.jpg"), unused={"s/b.jpg": "a link to nothing"}),
    "a pipe": Case(lambda root: pipe(root / "s/b.jpg"), unused={"s/b.jpg": "a pipe"}),
    "a pipe among masks": Case(lambda root: pipe(root / "masks/s/a.png"), unused={"masks/s/a.png": "a pipe"}),
    "a pipe without suffix": Case(lambda root: pipe(root / "s/b"), unused={"s/b": "a pipe"}),
    "a socket": Case(lambda root: unix_socket(root / "s/b.png"), unused={"s/b.png": "a pipe, socket"}),
    "a link to a device": Case(lambda root: link(root / "s/b.png", "/dev/zero"), unused={"s/b.png": "device"}),
    # -- metadata
    "a text of 3 MB": Case(big_text(b"tEXt", b"k\0" + 3_000_000 * b"x"), {"s/b.png"}),
    "a text that grows": Case(big_text(b"zTXt", b"k\0\0" + ZEROS), {"s/b.png"}),
    "a text behind the pixels": Case(big_text(b"iTXt", b"k\0\1\0\0\0" + ZEROS, behind=True), {"s/b.png"}),
    "a colour profile that grows": Case(big_text(b"iCCP", b"k\0\0" + ZEROS), {"s/b.png"}),
    "a text of a broken sum": Case(lambda root: with_chunk(photo(root / "s/b.png"), chunk(b"tEXt", b"k\0v", broken=True)), {"s/b.png"}),
    "short resolution": Case(big_text(b"pHYs", b"\0"), {"s/b.png"}),
    "broken EXIF": Case(jpeg_with(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff"), {"s/b.jpg"}),
    "broken profile": Case(jpeg_with(0xE2, b"ICC_PROFILE\0\0\0"), {"s/b.jpg"}),
    "broken list of pictures": Case(jpeg_with(0xE2, b"MPF\0MM\0*garbage"), {"s/b.jpg"}),
    "broken Photoshop": Case(jpeg_with(0xED, b"Photoshop 3.0\x008BIM\4\4\xff"), {"s/b.jpg"}),
    "broken JFIF": Case(jpeg_with(0xE0, b"JFIF\0"), {"s/b.jpg"}),
    "a TIFF whose words are not there": Case(broken_tag, {"s/b.tif"}),
    "broken Adobe": Case(jpeg_with(0xEE, b"Adobe\0"), {"s/b.jpg"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_folder(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "photographs"
    photo(root / "s" / "a.jpg")
    case.build(root)
    params = IndexParams("folder", root=str(root), sets=case.sets)
    if case.refused:
        with pytest.raises(DatasetError) as refused:
            execute(INDEX, params, tmp_path, Resources(workers=1))
        assert case.refused in str(refused.value) and "\n" not in str(refused.value)
        return
    artifact = execute(INDEX, params, tmp_path, Resources(workers=1))
    index = ImageIndex.open(artifact, tmp_path)
    expected = set() if "s" in case.unused else {"s/a.jpg"}
    assert set(index.names) == expected | case.images
    annotated = index.images["annotation_sha256"] != ""
    assert set(index.images["name"][annotated]) == case.annotated
    failures = dict(zip(index.failures["name"], index.failures["reason"], strict=True))
    assert set(failures) == set(case.unused)
    for name, reason in case.unused.items():
        assert reason in failures[name], name
    said = [line for line in capsys.readouterr().err.splitlines() if "images in" not in line]
    assert case.said in "\n".join(said)
    assert all(line.startswith("index: ") for line in said)
    assert bool(said) >= bool(case.unused), "nothing is left out in silence"


def test_pixels_without_their_metadata_are_the_same(tmp_path: Path) -> None:
    """And still turned as the file says."""
    growing = chunk(b"zTXt", b"k\0\0" + ZEROS)
    for orientation in (1, 6):
        whole = photo(tmp_path / "a.png", orientation=orientation).read_bytes()
        changed = with_chunk(tmp_path / "a.png", growing).read_bytes()
        assert len(changed) > len(whole) and decode_rgb(changed).shape[:2] == SIZE
        np.testing.assert_array_equal(decode_rgb(changed), decode_rgb(whole))
        for marker, content in ((0xE0, b"JFIF\0"), (0xED, b"Photoshop 3.0\x008BIM")):
            whole = photo(tmp_path / "a.jpg", orientation=orientation).read_bytes()
            changed = with_segment(tmp_path / "a.jpg", marker, content).read_bytes()
            np.testing.assert_array_equal(decode_rgb(changed), decode_rgb(whole))
    broken_tag(tmp_path)
    whole = photo(tmp_path / "c.tif").read_bytes()
    np.testing.assert_array_equal(
        decode_rgb((tmp_path / "s/b.tif").read_bytes()), decode_rgb(whole)
    )


def test_folders_of_sets_that_are_nearly_of_one_name() -> None:
    """`dff transform` writes into a folder that is named after the set."""
    names = ["a,b", "a;b", "a b", "a/b", "a:b", "a?b", "..", "discs", "a/4/1", "a/4/11"]
    made = [usual_folder(Path("project"), name, 1) for name in names]
    assert len(set(made)) == len(names)
    assert made[7] == Path("project/transformed/discs-k1")
    assert all(path.parent == Path("project/transformed") for path in made)


@pytest.mark.parametrize("suffix", [".heic", ".HEIC", ".heif", ".hif"])
def test_heic_is_read_as_what_it_shows(tmp_path: Path, suffix: str) -> None:
    """Lossy, and with a turn in EXIF, which by HEIF's rules does not count: it has its own."""
    assert HEIF, "pip install 'dff-pipeline[heic]'"
    level = np.linspace(0, 255, 64).astype(np.uint8)
    seen = np.stack([np.tile(level, (48, 1)), np.tile(level[:48, None], (1, 64))] * 2, -1)[..., :3]
    path = tmp_path / f"s/b{suffix}"
    path.parent.mkdir()
    Image.fromarray(seen).save(path, "HEIF", quality=95, exif=exif(6))
    dataset = READERS["folder"].open(tmp_path, READERS["folder"].options())
    assert [image.name for image in dataset.images()] == [f"s/b{suffix}"]
    decoded = decode_rgb(path.read_bytes())
    assert decoded.shape == seen.shape
    assert np.abs(decoded.astype(int) - seen).mean() < 4


def test_a_damaged_heic_is_a_failure_with_a_reason(tmp_path: Path) -> None:
    text(tmp_path / "b.heic", HEIC)
    with pytest.raises(ImageError):
        decode_rgb((tmp_path / "b.heic").read_bytes())


def test_heic_without_its_decoder_is_counted_with_the_remedy(tmp_path: Path) -> None:
    photo(tmp_path / "photographs/a.jpg")
    text(tmp_path / "photographs/b.HEIC", HEIC)
    script = (
        "import sys; sys.modules['pillow_heif'] = None; sys.argv[0] = 'dff'\n"
        "from pipeline.start import main; main()"
    )
    project = tmp_path / "project"
    small_project(project, tmp_path / "photographs")
    command = (sys.executable, "-c", script, "index")
    done = shell(project, ROOT, *command)
    assert done.returncode == 0, done.stderr
    assert "1 .heic (pip install 'dff-pipeline[heic]' to read them, or convert them)" in done.stderr


# -- VOC's lists -----------------------------------------------------------------------------

VOC: dict[str, tuple[Build, set[str], dict[str, str]]] = {
    "a byte order mark": (lambda r: voc(r, listed=b"\xef\xbb\xbfa 1\r\n"), {"a.jpg"}, {}),
    "Windows' Unicode": (lambda r: voc(r, listed="a 1\n".encode("utf-16")), {"a.jpg"}, {}),
    "a space in an id": (lambda r: voc(r, "my cow 01"), {"my cow 01.jpg"}, {}),
    "tabs": (lambda r: voc(r, listed="a\t 1\n"), {"a.jpg"}, {}),
    "an id with its suffix": (lambda r: voc(r, listed="a.jpg 1\n"), {"a.jpg"}, {}),
    "another suffix": (lambda r: voc(r, file="a.JPG"), {"a.JPG"}, {}),
    "PNG": (lambda r: voc(r, file="a.png"), {"a.png"}, {}),
    "Unicode": (lambda r: voc(r, nfd("Kühe"), listed="Kühe 1\n"), {nfd("Kühe.jpg")}, {}),
    "a class in capitals": (lambda r: voc(r, name="Cow"), {"a.jpg"}, {}),
    "flags in words": (lambda r: voc(r, flags="<truncated>false</truncated><difficult>False</difficult>"), {"a.jpg"}, {}),
    "contradictory lines": (lambda r: [voc(r), voc(r, "b", listed="b 1\nb -1\n")], {"a.jpg"}, {"b.jpg": "lists it with -1 and 1"}),
    "the same line twice": (lambda r: voc(r, listed="a 1\na 1\n"), {"a.jpg"}, {}),
    "a class that lists deny": (lambda r: [voc(r), voc(r, "b", listed="b -1\n")], {"a.jpg"}, {"b.jpg": "is listed as without cow, its XML has cow"}),
    "another class in the XML": (lambda r: [voc(r), voc(r, "b", name="horse")], {"a.jpg"}, {"b.jpg": "is listed for cow, its XML has horse"}),
    "two files for one id": (lambda r: [voc(r), voc(r, "b", file="b.png"), photo(r / "JPEGImages/b.bmp")], {"a.jpg"}, {"b.bmp": "keep one"}),
}  # fmt: skip


@pytest.mark.parametrize(("build", "images", "unused"), VOC.values(), ids=VOC)
def test_voc(build: Build, images: set[str], unused: dict[str, str], tmp_path: Path) -> None:
    root = tmp_path / "VOC2007"
    build(root)
    artifact = execute(INDEX, IndexParams("voc", root=str(root)), tmp_path, Resources(workers=1))
    index = ImageIndex.open(artifact, tmp_path)
    assert {Path(name).name for name in index.names} == images
    assert set(index.sets) == {"cow"}
    failures = {Path(f.name).name: f.reason for f in index.failures.itertuples()}
    assert set(failures) == set(unused)
    assert all(piece in failures[name] for name, piece in unused.items())


def test_voc_all_truncated_in_words_and_wrong_classes_say_what_is_wrong(tmp_path: Path) -> None:
    voc(tmp_path / "t", flags="<truncated>true</truncated>")
    voc(tmp_path / "w", name="Kuh")
    for folder, reason in (("t", "exclude: diff"), ("w", "is listed for cow, its XML has Kuh")):
        with pytest.raises(DatasetError, match=reason):
            list(READERS["voc"].open(tmp_path / folder, READERS["voc"].options()).images())


def test_a_listed_image_that_is_missing_or_a_pipe_is_a_failure(tmp_path: Path) -> None:
    root = voc(tmp_path / "VOC2007")
    for name in ("b", "c"):
        voc(root, name)
        (root / "JPEGImages" / f"{name}.jpg").unlink()
    pipe(root / "JPEGImages" / "c.jpg")
    params = IndexParams("voc", root=str(root), max_failed=0.9)
    folder = execute(INDEX, params, tmp_path, Resources(workers=1))
    failures = pd.read_parquet(folder / "failures.parquet")
    assert dict(zip(failures["name"], failures["reason"], strict=True)) == {
        "JPEGImages/b.jpg": "No such file or directory",
        "JPEGImages/c.jpg": "not a file: a pipe, socket or device",
    }
    assert set(failures["kind"]) == {"image"} and SIZE == (24, 36)
