"""The machine-readable mark of generated pictures: IPTC's digital source type, in XMP. Pure.

It says that a picture was made by a trained model, as article 50 of Regulation (EU) 2024/1689 asks for, in the property
that IPTC defines for it (Photo Metadata Standard 2021.1, "Digital Source Type"). It is the same in every picture.
"""

DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
#: Where XMP is in a PNG (XMP specification, part 3, section 1.1.5).
XMP_KEYWORD = "XML:com.adobe.xmp"
XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    ' <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
    '  <rdf:Description rdf:about=""\n'
    '   xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"\n'
    '   xmlns:xmp="http://ns.adobe.com/xap/1.0/"\n'
    '   xmp:CreatorTool="Dream Forge">\n'
    f"   <Iptc4xmpExt:DigitalSourceType>{DIGITAL_SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>\n"
    "  </rdf:Description>\n"
    " </rdf:RDF>\n"
    "</x:xmpmeta>\n"
    '<?xpacket end="r"?>'
)


def has_mark(xmp: bytes) -> bool:
    """Whether XMP says so, as an element or as an attribute.

    >>> has_mark(XMP.encode()), has_mark(b"<x:xmpmeta/>")
    (True, False)
    """
    return DIGITAL_SOURCE_TYPE.encode() in xmp and b"DigitalSourceType" in xmp
