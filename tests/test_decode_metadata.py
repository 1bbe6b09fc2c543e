"""What a file says about its picture, in EXIF, XMP and IPTC, and however broken."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dedup.decode import read_full, read_reduced
from dedup.decode.metadata import Packets, read_metadata


@pytest.fixture(scope="module")
def ramp() -> Image.Image:
    return Image.linear_gradient("L").convert("RGB")


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    if format == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False)
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def exif_with(**tags: Any) -> Image.Exif:
    names = {"make": 0x010F, "model": 0x0110, "software": 0x0131, "caption": 0x010E}
    exif = Image.Exif()
    for name, value in tags.items():
        exif[names[name]] = value
    return exif


def full_exif() -> Image.Exif:
    exif = exif_with(make="Canon", model="Canon EOS 6D", software="Darkroom 3", caption="The lake at noon")
    exif[0x0132] = "2020:01:01 00:00:00"
    details = exif.get_ifd(0x8769)
    details[0x9003] = "2019:07:04 12:41:07"
    details[0x9291] = "25"
    place = exif.get_ifd(0x8825)
    place[1], place[2], place[3], place[4] = "N", (48.0, 51.0, 30.0), "W", (2.0, 17.0, 40.2)
    return exif


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF"])
def test_metadata_is_read_from_every_format_that_carries_it(ramp: Image.Image, format: str) -> None:
    metadata = read_reduced(saved(ramp, format, exif=full_exif()), "a", 64).info.metadata
    if format == "TIFF":  # Pillow writes only the first directory of EXIF into a TIFF
        assert (metadata.capture_time, metadata.exif_tags) == ("2020-01-01T00:00:00", 5)
    else:
        assert metadata.capture_time == "2019-07-04T12:41:07.25"
        assert metadata.gps == "48.85833, -2.29450"
        assert 11 <= metadata.exif_tags <= 14
    assert metadata.camera == "Canon EOS 6D"
    assert metadata.software == "Darkroom 3"
    assert metadata.caption == "The lake at noon"


ATTRIBUTES = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description xmp:Rating="4" tiff:Orientation="6"
 exif:DateTimeOriginal="2018-05-06T07:08:09.123+02:00" tiff:Make="FUJIFILM" tiff:Model='X-T3'
 exif:GPSLatitude="48,51.5N" exif:GPSLongitude="2,17.67W" xmp:CreatorTool="Lightroom"><dc:subject><rdf:Bag>
 <rdf:li>lake</rdf:li><rdf:li>M&#252;ller &amp; Sons</rdf:li></rdf:Bag></dc:subject><dc:description><rdf:Alt>
 <rdf:li xml:lang="x-default">Noon</rdf:li></rdf:Alt></dc:description></rdf:Description></rdf:RDF></x:xmpmeta>"""
ELEMENTS = b"""<rdf:Description><xmp:Rating>4</xmp:Rating><tiff:Orientation>6</tiff:Orientation>
 <exif:DateTimeOriginal>2018-05-06T07:08:09.123+02:00</exif:DateTimeOriginal><tiff:Make>FUJIFILM</tiff:Make>
 <tiff:Model>X-T3</tiff:Model><exif:GPSLatitude>48,51.5N</exif:GPSLatitude>
 <exif:GPSLongitude>2,17.67W</exif:GPSLongitude><xmp:CreatorTool>Lightroom</xmp:CreatorTool><dc:subject><rdf:Seq>
 <rdf:li>lake</rdf:li><rdf:li>M\xc3\xbcller &amp; Sons</rdf:li></rdf:Seq></dc:subject>
 <dc:description><rdf:Alt><rdf:li xml:lang="x-default">Noon</rdf:li></rdf:Alt></dc:description></rdf:Description>"""


@pytest.mark.parametrize("packet", [ATTRIBUTES, ELEMENTS])
def test_xmp_is_read_in_both_its_spellings(packet: bytes) -> None:
    metadata, orientation = read_metadata(Packets(xmp=packet))
    assert metadata.rating == "4"
    assert metadata.keywords == ("lake", "Müller & Sons")
    assert metadata.caption == "Noon"
    assert metadata.capture_time == "2018-05-06T07:08:09.123"
    assert metadata.camera == "FUJIFILM X-T3"
    assert metadata.gps == "48.85833, -2.29450"
    assert metadata.software == "Lightroom"
    assert orientation == 6


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "HEIF"])
def test_xmp_is_found_in_every_format_that_carries_it(ramp: Image.Image, format: str) -> None:
    options: dict[str, Any] = {"xmp": ELEMENTS.replace(b"<tiff:Orientation>6</tiff:Orientation>", b"")}
    if format == "TIFF":
        options = {"tiffinfo": {700: options["xmp"]}}
    if format == "PNG":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", options["xmp"].decode())
        options = {"pnginfo": info}
    assert read_full(saved(ramp, format, **options), "a").info.metadata.keywords == ("lake", "Müller & Sons")


def test_keywords_of_older_programs_are_read_from_iptc(ramp: Image.Image) -> None:
    records = b"\x1c\x02\x19\x00\x04lake\x1c\x02\x19\x00\x04noon\x1c\x02\x78\x00\x05Quiet"
    block = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(records)) + records
    jpeg_bytes = saved(ramp, "JPEG")
    segment = b"\xff\xed" + struct.pack(">H", len(block) + 2) + block
    metadata = read_full(jpeg_bytes[:2] + segment + jpeg_bytes[2:], "a.jpg").info.metadata
    assert metadata.keywords == ("lake", "noon")
    assert metadata.caption == "Quiet"


def test_the_identifier_that_ties_a_live_photo_is_read() -> None:
    identifier = b"6D2A9F0E-1111-2222-3333-444455556666\0"
    note = (
        b"Apple iOS\0\0\1MM" + struct.pack(">HHHII", 1, 0x11, 2, len(identifier), 32) + bytes(4) + identifier
    )
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x927C] = note
    metadata, _ = read_metadata(Packets(exif=exif.tobytes()))
    assert metadata.content_identifier == identifier[:-1].decode()


def test_what_a_camera_fills_in_by_itself_is_no_metadata() -> None:
    exif = exif_with(caption="OLYMPUS DIGITAL CAMERA         ")
    exif.get_ifd(0x8769)[0x9003] = "0000:00:00 00:00:00"
    metadata, orientation = read_metadata(Packets(exif=exif.tobytes()))
    assert (metadata.caption, metadata.capture_time, orientation) == ("", "", 1)
    assert read_metadata(Packets())[0].exif_tags == 0


@given(st.binary(max_size=300), st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_no_bytes_upset_the_reader_of_metadata(exif: bytes, text: bytes) -> None:
    read_metadata(Packets(exif=b"Exif\0\0II*\0\x08\0\0\0" + exif, xmp=text, iptc=b"\x1c\x02" + text))
    whole = bytearray(full_exif().tobytes())
    for place, value in enumerate(exif[:40]):
        whole[(value * 7 + place * 13) % len(whole)] = value
    metadata, orientation = read_metadata(Packets(exif=bytes(whole), xmp=ATTRIBUTES.replace(b'"', text[:1])))
    assert 1 <= orientation <= 8 and len(metadata.caption) <= 4000
