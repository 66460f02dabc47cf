"""Text comes out as it was written, whichever encoding an editor chose, or it is refused."""

import pytest

from mmjax.texts import decode_text

WORDS = "Zoë’s café – “A man img smiles”\nà la carte, naïve\n"


@pytest.mark.parametrize(
    ("encoding", "mark", "found"),
    [("utf-8", "", "utf-8"), ("utf-8", "\ufeff", "utf-8"), ("utf-16", "", "utf-16"), ("utf-16-le", "", "utf-16")]
    + [
        ("utf-16-be", "", "utf-16"),
        ("utf-16-be", "\ufeff", "utf-16"),
        ("utf-32", "", "utf-32"),
        ("cp1252", "", "cp1252"),
    ],
)
def test_every_encoding_of_western_text(encoding, mark, found):
    assert decode_text((mark + WORDS).encode(encoding)) == (WORDS, found)


@pytest.mark.parametrize("text", ["", "a", "ab", "path,caption\n1.jpg,A man\n", "日本の女性", "мужчина", "女"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_other_scripts(text, encoding):
    assert decode_text(text.encode(encoding))[0] == text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("мужчина улыбается", "cp1251"),
        ("一个男人在微笑", "gbk"),
        ("笑っている男", "shift-jis"),
        ("mężczyzna się śmieje", "cp1250"),
    ]
    + [("Ο άντρας χαμογελά", "cp1253"), ("男人", "big5"), ("남자가 웃는다", "euc-kr")],
)
def test_what_would_be_read_as_other_words_is_refused(text, encoding):
    with pytest.raises(ValueError, match="neither UTF-8 nor UTF-16, at byte"):
        decode_text(text.encode(encoding))


def test_bytes_are_no_text():
    with pytest.raises(ValueError, match="neither UTF-8"):
        decode_text(bytes(range(256)))
    with pytest.raises(ValueError):
        decode_text(b"\xff\xfea")
