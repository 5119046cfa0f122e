"""What was removed about a patient, as tokens that are searched for in what is sent.

Names are searched part by part, so in any order, with and without accents. Identifiers, addresses and telephone numbers
are searched as a whole, dates in their usual spellings. The report names tokens that are too short or too common to be
searched for.
"""

from __future__ import annotations

import re
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import combinations, pairwise, permutations
from threading import Lock

from xnat_ingest.deidentify.beginnings import Beginnings
from xnat_ingest.deidentify.dates import DateSearch, date_search
from xnat_ingest.deidentify.packed import View, unpacked
from xnat_ingest.deidentify.spaced import (
    AddressSearch,
    SpacedSearch,
    address_search,
    identifier_search,
    phone_search,
)
from xnat_ingest.inputs.dicom_dictionary import decoded, dictionary_words, name_of
from xnat_ingest.inputs.source import go_on

# Fewer letters of a name, or characters of an identifier, also occur by chance.
SHORTEST_NAME = 4
SHORTEST_ID = 4
SHORTEST_NUMBER = 5
SHORTEST_ADDRESS = 6
SHORTEST_PHONE = 6
# A procedure's name counts with so many digits, and its abbreviation has at most so many characters.
_LONGEST_SERIAL, _LONGEST_ABBREVIATION = 2, 5
_LOCAL_PHONE = 9
# Lines of one address, and numbers of one value, that are searched for. A hostile one may have thousands.
_MOST_SEARCHES = 20
_TOO_MANY = (
    f"more than {_MOST_SEARCHES} of them: all are searched for as they stand, the first ones in other spaces, too"
)
# A number of at least so many digits does not occur in a header by chance.
SHORTEST_PLAIN_NUMBER = 6
LONGEST_NUMBER = 64
# Names of at most so many parts are searched for in pairs of any two parts, others in pairs of neighbours.
_MOST_PAIRED = 10
# Names of short parts, and of at most so many, are also searched for as one word, the parts in each order.
_MOST_JOINED = 4
# From here on a token is found inside a longer word, too.
_LONG_NAME, _LONG_ID, _LONG_ADDRESS = 6, 8, 8
# Twice as long as an identifier may be. In longer ones other signs between their parts are not looked for: each place
# of a text would be compared with all of it.
_LONGEST_GROUPED = 128
_ONLY_AS_WRITTEN = f"of more than {_LONGEST_GROUPED} characters, so it is not found with other signs between its parts"
_ONLY_ALONE = f"of fewer than {_LONG_ID} characters, so it is not found right beside another letter or digit"
# Words that occur in headers whatever the patient is called, besides those of DICOM's own dictionary.
_COMMON = frozenset(
    """
    anon anonymized anonymised anonymous deidentified removed unknown none null test dummy demo patient subject phantom
    sample volunteer control healthy research clinical study series scan image hospital clinic radiology university
    siemens philips general electric medical systems toshiba canon hitachi bruker united imaging healthcare fujifilm
    head neck brain chest thorax abdomen pelvis spine cervical thoracic lumbar knee shoulder wrist hand foot ankle elbow
    heart liver kidney prostate breast skull orbit face axial sagittal coronal oblique tra sag cor left right mprage
    flair space trufi haste localizer scout survey loc calibration field map dwi diffusion perfusion bold rest task
    contrast gadolinium native with without plus pre post early late dynamic angio male female adult child infant
    doctor operator technician technologist admin administrator service user guest default system pilot proband
    """.split()  # noqa: SIM905 - as a list it would be 130 lines
)
_PLAIN = str.maketrans({"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"})  # noqa: RUF001
# How these letters are also written where they are missing, besides _PLAIN and the letter without its mark.
_SPELLED_OUT = {"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "đ": "dj", "ð": "th"}
_ALL_SPELLED_OUT = str.maketrans(_SPELLED_OUT)
# A name with more kinds of such letters is searched for with none and with all of them spelled out.
_MOST_MIXED = 3
# A name with more of them is searched for in bytes with all marks, with none, and with those that are a part of the
# letter (as of ø): others take too many spellings, each in all encodings.
_MOST_HALVED = 2
# Characters that no screen shows: Unicode's Default_Ignorable_Code_Point, and the marks of annotations. A name is still
# read with one inside.
_INVISIBLE = re.compile(
    "[\u00ad\u0640\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# What is written between the parts of an identifier: also a dash of any length, and a blank that does not break.
_BETWEEN_PARTS = "-_ ./\u2010\u2011\u2012\u2013\u2014\u2212\u00a0"
_RIGHT_TO_LEFT = "\u202e"
# Zeros of other digits than those of ASCII, in which numbers are also written: full-width, Arabic, Persian, Hindi,
# Bengali, Thai. In texts all that Unicode knows are read.
_ZEROS = "\uff10\u0660\u06f0\u0966\u09e6\u0e50"
_FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
# Encodings of Windows, DOS, Macintosh and Unix, and those of the standard, in which texts stand without saying so.
_OFTEN_UNNAMED = (
    "latin-1",
    *(f"cp{page}" for page in (437, 737, 850, 852, 855, 857, 862, 864, 866, 874, 932, 949, 950, *range(1250, 1259))),
    *(f"iso8859-{part}" for part in (2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16)),
    *("koi8-r", "koi8-u", "mac-roman", "mac-cyrillic", "mac-greek", "mac-latin2", "mac-turkish"),
    *("shift_jis", "euc_jp", "iso2022_jp", "euc_kr", "gb18030", "big5"),
)
# Bytes of a name that is read in all of them, where it is no text in its own: three groups of 64 characters and some.
_MOST_GUESSED = 512
# Signs and digits within one part of a name, or an identifier.
_IN_NAMES = re.compile(r"[0-9 .,'/_-]")
# Bytes of tokens that are kept for the next files, and what each needle and each search takes besides its characters.
_MOST_KEPT, _EACH, _EACH_SEARCH = 32 * 1024**2, 350, 5_000
# What stands for bytes that are no text, and signs that letters of another encoding become in Latin-1.
_REPLACED = "\ufffd"
_NO_TEXT = re.compile("[\x80-\x9f\ufffd]")
# Marks that are left out where others are written.
_LEFT_OUT = str.maketrans("ёЁ", "еЕ")  # noqa: RUF001
_APOSTROPHE = re.compile("['`\u00b4\u2018\u2019\u201b\u02b9\u02bb-\u02c1\u055a\u2032\ua78c\uff07]")
# What is written for letters that a program did not know.
_LOST_LETTERS = "?*"
# Quotation marks and the middle dot, which stands between the parts of names in China.
_LATIN_1_SIGNS = "\u00ab\u00b7\u00bb"
_SEPARATORS = ("^", " ", ", ", ",", "_", "-", ".", "")
# Elements whose removed values are searched for, by what they are. Names are found by their VR.
NAME, ID, BIRTH, ADDRESS, PHONE = "name", "id", "birth date", "address", "telephone number"
# The date of the study, which some devices write into private elements. It tells less than a birth date.
STUDY = "study date"
SOURCES: dict[int, str] = {
    0x00080050: ID,  # AccessionNumber
    0x00080092: ADDRESS,  # ReferringPhysicianAddress
    0x00080094: PHONE,  # ReferringPhysicianTelephoneNumbers
    0x00100020: ID,  # PatientID
    0x00100030: BIRTH,
    0x00101000: ID,  # OtherPatientIDs
    0x00101040: ADDRESS,
    0x00101050: ID,  # InsurancePlanIdentification
    0x00101090: ID,  # MedicalRecordLocator
    0x00102154: PHONE,
    0x00102155: ADDRESS,  # PatientTelecomInformation
    0x00102295: ID,  # BreedRegistrationNumber
    0x00120040: ID,  # ClinicalTrialSubjectID
    0x00120042: ID,  # ClinicalTrialSubjectReadingID
    0x00200010: ID,  # StudyID
    0x00380010: ID,  # AdmissionID
    0x00380060: ID,  # ServiceEpisodeID
    0x00401001: ID,  # RequestedProcedureID
    0x00401006: ID,  # PlacerOrderNumberProcedure
    0x00401007: ID,  # FillerOrderNumberProcedure
    0x00400009: ID,  # ScheduledProcedureStepID
    0x00400253: ID,  # PerformedProcedureStepID
    0x00401102: ADDRESS,
    0x00401103: PHONE,
    0x00401104: ADDRESS,  # PersonTelecomInformation
    0x00402006: ID,  # PlacerOrderNumberImagingServiceRequestRetired
    0x00402007: ID,  # FillerOrderNumberImagingServiceRequestRetired
    0x00402010: PHONE,  # OrderCallbackPhoneNumber
    0x00402011: ADDRESS,  # OrderCallbackTelecomInformation
    0x00402016: ID,  # PlacerOrderNumberImagingServiceRequest
    0x00402017: ID,  # FillerOrderNumberImagingServiceRequest
    0x0040050A: ID,  # SpecimenAccessionNumber
    0x00400512: ID,  # ContainerIdentifier: of a specimen, often made of its accession number
    0x00400551: ID,  # SpecimenIdentifier
    0x004006FA: ID,  # SlideIdentifier
    0x0040A353: ADDRESS,  # AddressTrial
    0x0040A354: PHONE,  # TelephoneNumberTrial
    0x22000005: ID,  # BarcodeValue: of a slide's label
    0x40080040: ID,  # ResultsID
    0x4008011A: ADDRESS,  # DistributionAddress: of a person
    0x40080200: ID,  # InterpretationID
}
# Identifiers that some sites make of the procedure's name: HEAD1, MR BRAIN.
_OF_PROCEDURES = frozenset({0x00400009, 0x00400253, 0x00401001})
Source = tuple[int, str, bytes]
_Search = DateSearch | AddressSearch | SpacedSearch
_NUMBERED = (ID, BIRTH, PHONE)
# Of what a longer word or number would be made.
_PARTS: dict[str, Callable[[str], bool]] = {BIRTH: str.isdigit, PHONE: str.isdigit, NAME: str.isalpha}
# How many bytes before a token are checked: leading zeros of a number do not count.
_BEFORE = 16
# What it takes to begin one search in one text, in characters that are gone through in the same time.
_EACH_TEXT = 32
# Bytes that are searched at once, and those around a hit that any search looks at.
_PIECE, _AROUND = 1024 * 1024, 256
# Bytes that one character of what is searched for in pieces takes at most, with what is between it and the next one.
_MOST_SPACED = 13


@dataclass(frozen=True, slots=True)
class Token:
    """Something to search for.

    tag: of the element that had it.
    kind: a word of SOURCES.
    text: folded.
    bounded: it counts only where it is not part of a longer word or number.
    """

    tag: int
    kind: str
    text: str
    bounded: bool

    @property
    def keyword(self) -> str:
        return name_of(self.tag)

    def stands_alone(self, before: str, after: str) -> bool:
        """Whether the token counts at a place, given what is around it."""
        if not self.bounded:
            return True
        if self.kind == ID and self.text.isdecimal():
            before = before.rstrip("0")  # a number may be written with zeros before it
        part = _PARTS.get(self.kind, str.isalnum)
        return not (part(before[-1:]) or part(after[:1]))


def _wider(known: Token | None, token: Token) -> Token:
    """The known one, unless the other one is found in more places: one name may be whole, another a piece."""
    return token if not known or (known.kind == token.kind and known.bounded and not token.bounded) else known


def fold(text: str) -> str:
    """The text in lower case, without accents and invisible characters, its digits those of ASCII."""
    if text.isascii():
        return text.lower()
    plain = _INVISIBLE.sub("", unicodedata.normalize("NFKD", text.casefold()))
    return "".join(_digit(c) for c in plain if not unicodedata.combining(c)).translate(_PLAIN)


def _words(text: str) -> list[str]:
    """The runs of letters, digits and their marks, in any script."""
    return "".join(c if _is_of_word(c) else " " for c in text).split()


def _is_of_word(c: str) -> bool:
    return c.isalnum() or unicodedata.category(c)[0] == "M" or _INVISIBLE.match(c) is not None


def _digit(character: str) -> str:
    return str(unicodedata.decimal(character, character))


def _is_number(digits: str) -> bool:
    """Whether numbers are compared with it: it does not occur by chance, and a float can hold it."""
    return SHORTEST_PLAIN_NUMBER <= len(digits.lstrip("0")) <= LONGEST_NUMBER


def _plain(text: str) -> set[str]:
    """A text without accents, in both ways in which umlauts and the like are written then."""
    if text.isascii():
        return {fold(text)}
    return {fold(text), fold(_composed(text).translate(_ALL_SPELLED_OUT))}


def _composed(text: str) -> str:
    """In small letters, each with its mark as one character."""
    return unicodedata.normalize("NFC", text.lower())


def _spellings(text: str) -> set[str]:
    """As _plain, for what is searched for: also some letters in the one way and others in the other."""
    forms, composed = _plain(text), _composed(text)
    letters = sorted(_SPELLED_OUT.keys() & set(composed))
    if len(letters) <= _MOST_MIXED:
        mixed = (some for number in range(1, len(letters)) for some in combinations(letters, number))
        forms |= {fold(_spelled_out(composed, some)) for some in mixed}
    return forms


def _spelled_out(text: str, letters: Iterable[str]) -> str:
    for letter in letters:
        text = text.replace(letter, _SPELLED_OUT[letter])
    return text


class Tokens:
    """The tokens of one patient.

    weak: (keyword, why) of what cannot be searched for.
    numbers: identifiers that are numbers -> the keyword of each.
    """

    def __init__(self, sources: Iterable[Source], character_sets: Sequence[bytes]) -> None:
        """character_sets: every one that the object names, that of the outermost level first."""
        found: dict[str, Token] = {}
        weak: dict[tuple[str, str], None] = {}
        self._needles: dict[bytes, Token] = {}
        self._searches: dict[tuple[str, str], tuple[_Search, Token]] = {}
        codecs = tuple(codec for one in character_sets for codec in _codec(one))
        # Digits that are also in place of a name count as what else they are: numbers have more spellings.
        for tag, kind, raw in sorted(sources, key=lambda source: source[1] == NAME):
            is_guessed = kind in (NAME, ID) and len(raw) <= _MOST_GUESSED and not is_readable(raw, character_sets)
            guesses = _guesses(raw) if is_guessed else ()
            for number, text in enumerate((*readings(raw, character_sets), *guesses)):
                if tag in _OF_PROCEDURES and _names_procedure(text):
                    weak[name_of(tag), "names a procedure, so it is not searched for"] = None
                    continue
                for item in _MAKERS[kind](text):
                    if isinstance(item, _Weak):
                        if not number:  # only the reading that the header itself asks for
                            weak[name_of(tag), item.why] = None
                        continue
                    for form in sorted(_spellings(item.text)):
                        found[form] = token = _wider(found.get(form), Token(tag, kind, form, item.bounded))
                    for needle in _spelled(item.text, codecs):
                        self._needles[needle] = _wider(self._needles.get(needle), token)
                for word, search in _SEARCHES.get(kind, _no_searches)(text):
                    self._searches.setdefault((kind, word), (search, Token(tag, kind, word, bounded=False)))
            for needle in _as_written(kind, raw):
                self._needles.setdefault(needle, Token(tag, kind, "", bounded=False))
        self._tokens = found
        spaced = (_MOST_SPACED * len(word) for _, word in self._searches)
        self._longest = max((*map(len, self._needles), *spaced), default=0)
        self.weak = tuple(weak)
        digits = (t for t in self._tokens.values() if t.kind in _NUMBERED and t.text.isascii() and t.text.isdecimal())
        self.numbers = {int(t.text): t.keyword for t in digits if _is_number(t.text)}

    @property
    def size(self) -> int:
        """About how many bytes they take."""
        spelled = sum(map(len, self._needles)) + sum(map(len, self._tokens))
        return spelled + _EACH * (len(self._needles) + len(self._tokens)) + _EACH_SEARCH * len(self._searches)

    def effort(self, text: str) -> int:
        """About how many characters are gone through to look into a text, beside those of the text itself."""
        return len(self._searches) * (len(text) + _EACH_TEXT)

    def in_text(self, text: str) -> Token | None:
        """The first token in a text, None when there is none."""
        forms = _plain(text)
        if _RIGHT_TO_LEFT in text:  # what stands backwards in it is read forwards
            forms |= _plain(text[::-1])
        for token in self._tokens_in(forms):
            for one in forms:
                if any(token.stands_alone(one[:at], one[at + len(token.text) :]) for at in _places(one, token.text)):
                    return token
        for search, token in self._searches.values():
            if any(search.in_text(one) for one in forms):
                return token
        return None

    def in_bytes(self, data: bytes, check_stop: Callable[[], None] = go_on) -> Iterator[tuple[Token, int, int]]:
        """(token, start, end) of every place in encoded elements, whatever they are. Also of runs of characters that
        hold a token when they are unpacked from base64, hexadecimal digits, percent signs or escapes of letters.

        check_stop: called for each token, since there can be many; may raise.
        """
        yield from self._as_it_stands(data, check_stop)
        for views in _batches(unpacked(data, self._longest + 2 * _AROUND)):
            if any(True for _ in self._in_piece(b"\0\0".join(view.data for view in views), check_stop)):
                for view in views:
                    hits = self._in_piece(view.data, check_stop)
                    whole = (token for token, at, end in hits if view.has_whole(at, end, _AROUND))
                    yield from ((token, view.begin, view.end) for token in whole)

    def _as_it_stands(self, data: bytes, check_stop: Callable[[], None]) -> Iterator[tuple[Token, int, int]]:
        """Looks at one piece after the other: of a long header, one search may take a while, and needs a copy."""
        step = max(_PIECE, self._longest)
        for start in range(0, max(len(data) - 2 * _AROUND - self._longest, 1), step):
            end = start + step + self._longest + 2 * _AROUND
            first, last = _AROUND if start else 0, step + _AROUND if end < len(data) else len(data)
            for token, at, until in self._in_piece(data[start:end], check_stop):
                if first <= at < last:
                    yield token, start + at, start + until

    def _in_piece(self, data: bytes, check_stop: Callable[[], None]) -> Iterator[tuple[Token, int, int]]:
        low = data.lower()
        yield from self._spelled_in(low, self._needles, check_stop)
        for search, token in self._searches.values():
            check_stop()
            yield from ((token, begin, end) for begin, end in search.in_bytes(low))

    def is_spelled_in(self, value: bytes) -> bool:
        """Whether a token stands in a text in any of the encodings that occur, whatever the header says."""
        low = value.lower()
        needles = self._needle_beginnings.words_in(low) if len(low) < len(self._needles) else self._needles
        return any(True for _ in self._spelled_in(low, needles, go_on))

    def _tokens_in(self, forms: Iterable[str]) -> Iterable[Token]:
        """Those that may stand in a text. A short one is not looked through for each of thousands."""
        if max(map(len, forms)) >= len(self._tokens):
            return self._tokens.values()
        words = {word for one in forms for word in self._beginnings.words_in(one)}
        return [self._tokens[word] for word in sorted(words, key=self._order.__getitem__)]

    @cached_property
    def _order(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self._tokens)}

    @cached_property
    def _beginnings(self) -> Beginnings[str]:
        return Beginnings(self._tokens)

    @cached_property
    def _needle_beginnings(self) -> Beginnings[bytes]:
        return Beginnings(self._needles)

    def _spelled_in(
        self, low: bytes, needles: Iterable[bytes], check_stop: Callable[[], None]
    ) -> Iterator[tuple[Token, int, int]]:
        for needle in needles:
            token = self._needles[needle]
            check_stop()
            for at in _places(low, needle):
                end = at + len(needle)
                before, after = low[max(0, at - _BEFORE) : at], low[end : end + 1]
                # Beside an address or a number, other bytes than ASCII are most likely no letters.
                near = "ascii" if token.kind in (ADDRESS, PHONE, BIRTH) else "latin-1"
                if token.stands_alone(before.decode(near, "replace"), after.decode(near, "replace")):
                    yield token, at, end


def _batches(views: Iterable[View]) -> Iterator[list[View]]:
    """As many at once as a piece has bytes: most of them are short."""
    some, size = list[View](), 0
    for view in views:
        some.append(view)
        size += len(view.data)
        if size >= _PIECE:
            yield some
            some, size = [], 0
    if some:
        yield some


_Key = tuple[tuple[Source, ...], tuple[bytes, ...]]


class _Kept:
    """The tokens of the latest patients, as many as _MOST_KEPT bytes hold: one header may make 11 MB of them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._tokens: OrderedDict[_Key, Tokens] = OrderedDict()
        self._size = 0

    def get(self, key: _Key) -> Tokens:
        with self._lock:
            if found := self._tokens.get(key):
                self._tokens.move_to_end(key)
                return found
        made = Tokens(*key)
        with self._lock:
            if key not in self._tokens:
                self._tokens[key] = made
                self._size += made.size
            while self._size > _MOST_KEPT and len(self._tokens) > 1:
                self._size -= self._tokens.popitem(last=False)[1].size
        return made


_kept = _Kept()


def tokens_of(sources: tuple[Source, ...], character_sets: tuple[bytes, ...]) -> Tokens:
    """Kept, since all files of a session say much the same about their patient."""
    return _kept.get((sources, character_sets))


def readings(raw: bytes, character_sets: Sequence[bytes]) -> list[str]:
    """Every text that some bytes may be: in the character sets that the object names, and in those that are often used
    without being named."""
    if _is_plain(raw):
        return [raw.decode("ascii")]
    found = [decoded(raw, one) for one in character_sets or (b"",)]
    try:
        found.append(raw.decode("utf-8"))
    except UnicodeDecodeError:
        found.append(raw.decode("latin-1"))
    return list(dict.fromkeys(found))


def _is_plain(raw: bytes) -> bool:
    """Whether the bytes are ASCII, and no escape begins another character set."""
    return raw.isascii() and b"\x1b" not in raw


def is_readable(raw: bytes, character_sets: Sequence[bytes]) -> bool:
    """Whether some bytes are a text in a character set that the object names, or in UTF-8. Nobody knows what others
    say."""
    if _is_plain(raw):
        return True
    if b"\x1b" in raw and not any(b"ISO 2022" in one for one in character_sets):
        return False
    if any(_REPLACED not in decoded(raw, one) for one in character_sets or (b"",)):
        return True
    return _REPLACED not in raw.decode("utf-8", "replace")


def _guesses(raw: bytes) -> Iterator[str]:
    """What a name or an identifier may be that is no text in any character set of the object: one in other letters than
    Latin ones.

    Latin ones would also be made by chance, and then be searched for as words of ASCII."""
    for encoding in _OFTEN_UNNAMED:
        try:
            text = raw.decode(encoding).strip(" \0")
        except UnicodeDecodeError:
            continue
        words = [word for word in re.split(r"[\x00-@\[-`{-\x7f\s]+", text) if word]
        if words and all(word.isalpha() and word in _cases(word) and not fold(word).isascii() for word in words):
            yield text


def _cases(word: str) -> set[str]:
    """The word in small letters, in capitals, and with a capital at its beginning. The last of a Greek word differs."""
    capitals = word.upper()
    return {word.lower(), capitals, capitals.lower(), word.title(), capitals.title()}


def _places(text: str | bytes, word: str | bytes) -> Iterator[int]:
    at = text.find(word)  # type: ignore[arg-type]
    while at >= 0:
        yield at
        at = text.find(word, at + 1)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class _Strong:
    text: str
    bounded: bool = True


@dataclass(frozen=True, slots=True)
class _Weak:
    why: str


_Found = Iterator[_Strong | _Weak]


def _spelled(text: str, codecs: Sequence[str]) -> set[bytes]:
    """A token in bytes: with and without accents, in the encodings that occur; ASCII letters in lower case.

    Devices and people also write in encodings that the header does not name.
    """
    forms = {text, text.lower(), text.casefold(), text.upper(), *_spellings(text)}
    if not text.isascii():
        plainer = text.translate(_LEFT_OUT)
        forms |= {case for form in (text, plainer, *_spellings(text), *_half_plain(text)) for case in _cases(form)}
        forms |= {unicodedata.normalize("NFD", form) for form in tuple(forms)}
    needles = set()
    for form in forms:
        for encoding in ("utf-8",) if form.isascii() else ("utf-8", "utf-16-be", *_OFTEN_UNNAMED, *codecs):
            try:
                needles.add(form.encode(encoding).lower())
            except (UnicodeEncodeError, LookupError):
                continue
        # The last zeros of the wide ones are not needed. Without them big endian is found, too.
        needles.add(form.encode("utf-16-le", "surrogatepass")[:-1].lower())
        needles.add(form.encode("utf-32-le", "surrogatepass")[:-3].lower())
    return {needle for needle in needles if len(needle) >= SHORTEST_ID}


def _half_plain(text: str) -> Iterator[str]:
    """With some marks and without others, as programs leave it that know only some of the letters."""
    composed = _composed(text)
    letters = [letter for letter in sorted(set(composed)) if not letter.isascii() and fold(letter).isascii()]
    yield "".join(c for c in unicodedata.normalize("NFD", composed) if not unicodedata.combining(c))
    if len(letters) == _MOST_HALVED:
        for lost in letters:
            yield composed.replace(lost, fold(lost))
            yield composed.replace(lost, _SPELLED_OUT.get(lost, fold(lost)))


def _as_written(kind: str, raw: bytes) -> Iterator[bytes]:
    """The parts of a name, and identifiers, as they stand, where they are no ASCII: they are found whatever the
    character set. Also in capitals and in small letters, in each encoding in which they are letters."""
    if kind not in (NAME, ID) or _is_plain(raw):
        return
    for part in re.split(rb"[\^=\\ ]", raw) if kind == NAME else map(bytes.strip, raw.split(b"\\")):
        if len(part) >= (_LONG_NAME if part.isascii() else SHORTEST_NAME) and not _is_plain(part):
            yield part.lower()
            yield from {form.lower() for encoding in _OFTEN_UNNAMED for form in _recased(part, encoding)}


def _recased(part: bytes, encoding: str) -> Iterator[bytes]:
    try:
        word = part.decode(encoding)
    except UnicodeDecodeError:
        return
    if _IN_NAMES.sub("", word).isalpha():
        for form in _cases(word):
            with suppress(UnicodeEncodeError):
                yield form.encode(encoding)


def _codec(character_sets: bytes) -> Sequence[str]:
    known = {b"ISO_IR 192": "utf-8", b"ISO_IR 101": "iso8859-2", b"ISO_IR 144": "iso8859-5", b"ISO_IR 126": "iso8859-7"}
    known |= {b"ISO_IR 138": "iso8859-8", b"ISO_IR 148": "iso8859-9", b"ISO_IR 13": "shift_jis", b"GB18030": "gb18030"}
    known |= {b"ISO 2022 IR 87": "iso2022_jp", b"ISO 2022 IR 149": "euc_kr", b"GBK": "gbk", b"ISO_IR 127": "iso8859-6"}
    names = [name.strip() for name in character_sets.strip(b" \0").split(b"\\")]
    return [known[name] for name in names if name in known]


def _is_common(word: str) -> bool:
    plain = fold(word)
    return plain in _COMMON or plain in dictionary_words() or len(set(plain)) == 1


def _names_procedure(text: str) -> bool:
    """Whether it is made of common words, abbreviations and small numbers. Scanners keep the same in other elements."""
    runs = re.findall(r"[^\W\d_]+|\d+", text)
    words = [run for run in runs if not run.isdecimal()]
    if not words or any(len(run) > _LONGEST_SERIAL for run in runs if run.isdecimal()):
        return False
    common = [word for word in words if len(word) >= SHORTEST_NAME and _is_common(word)]
    if any(len(word) >= SHORTEST_NAME for word in words if word not in common):
        return False
    return bool(common) or len("".join(runs)) <= _LONGEST_ABBREVIATION


def _names(text: str) -> _Found:
    """Of every person in a PN value, and every way in which the name is written."""
    for person in re.split(r"[=\\]", text):
        parts = _parts_of_name(person)
        yield from _of_person(parts)
        if (letters := [rest for part in parts if (rest := _without_number(part))]) != parts:
            yield from _of_person(letters)  # twins and namesakes are numbered
        if (pieces := [piece for part in parts for piece in _pieces(part)]) != letters:
            yield from _of_person(pieces, are_whole=False)


def _of_person(parts: list[str], *, are_whole: bool = True) -> _Found:
    """are_whole: whether the parts may be found inside a longer word. Not so what is left of them."""
    pieces = [_APOSTROPHE.split(part) for part in parts if _APOSTROPHE.search(part)]  # O'Neil
    parts = [*parts, *("".join(words) for words in pieces)]
    parts += [word for words in pieces for word in words if _tells(word)]
    alone = {part for part in parts if _tells(part)}
    for part in parts:
        if part in alone:
            yield _Strong(part, bounded=not are_whole or (part.isascii() and len(part) < _LONG_NAME))
    weak = [part for part in parts if part not in alone]
    pairs = combinations(parts, 2) if len(parts) <= _MOST_PAIRED else pairwise(parts)
    for one, other in (pair for pair in pairs if not alone.issuperset(pair)):
        if len(one + other) > SHORTEST_NAME and not (_is_common(one) and _is_common(other)):
            yield from (_Strong(a + by + b) for a, b in ((one, other), (other, one)) for by in _SEPARATORS)
    if not alone:
        yield from _short_name(list(dict.fromkeys(parts))[:_MOST_PAIRED])
    if weak:
        yield _Weak("a part of the name is too short or too common a word to be searched for alone")


def _without_number(part: str) -> str:
    """A part of a name without digits before and behind it. One that has others between its letters is a code."""
    rest = _strip(part, str.isdigit)
    return part if any(map(str.isdigit, rest)) else rest


def _pieces(part: str) -> list[str]:
    """What is left of a part of a name without signs that may stand for letters.

    Of those inside a word only long pieces count: others may be anything, as Hern of Hern?ndez.
    """
    words = "".join(" " if _may_be_letter(c) else c for c in part).split()
    pieces = [piece for word in words if (piece := _without_number(word))]
    return pieces if len(pieces) == 1 else [piece for piece in pieces if _weight(piece) >= _LONG_NAME]


def _may_be_letter(c: str) -> bool:
    """Whether a sign may stand for a letter that was lost, or is one in another encoding than Latin-1.

    What stands for bytes that are no text was not written: nobody knows how many letters it is.
    """
    is_sign = "\x7f" < c < "\u0100" and unicodedata.category(c)[0] in "PS"
    return c in _LOST_LETTERS or (is_sign and not _APOSTROPHE.match(c))


def _strip(text: str, is_other: Callable[[str], bool]) -> str:
    kept = [at for at, c in enumerate(text) if not is_other(c)]
    return text[kept[0] : kept[-1] + 1] if kept else ""


def _parts_of_name(person: str) -> list[str]:
    """Divided at every sign, but for apostrophes and what stands for lost letters (see _pieces).

    Signs of Latin-1 among other letters of it may be letters of another encoding, so they divide nothing there.
    """
    is_latin_1 = any("\x7f" < c < "\u0100" and c not in _LATIN_1_SIGNS for c in person)

    def divides(c: str) -> bool:
        if c.isspace():
            return True
        if "\x7f" < c < "\u0100":
            return c in _LATIN_1_SIGNS and not is_latin_1
        is_sign = unicodedata.category(c)[0] in "PS"
        return is_sign and c not in _LOST_LETTERS and c != _REPLACED and not _APOSTROPHE.match(c)

    return "".join(" " if divides(c) else c for c in person).split()


def _short_name(parts: Sequence[str]) -> _Found:
    """Of a name that has no part to be searched for alone: two parts side by side, or all of them as one word."""
    for number in range(2, len(parts) + 1 if len(parts) <= _MOST_JOINED else 3):
        for some in permutations(parts, number):
            word = "".join(some)
            if all(map(_is_syllable, some)):
                yield from (_Strong(by.join(some), bounded=False) for by in _SEPARATORS)
            elif word.isalpha() and not all(map(_is_common, some)):
                if number == 2 and len(word) > 2:
                    yield from (_Strong(by.join(some)) for by in _SEPARATORS if by)
                if len(word) >= SHORTEST_NAME and not _is_common(word):
                    yield _Strong(word)


def _is_syllable(part: str) -> bool:
    """Whether it is a sign of Chinese, Japanese or Korean, which says more than a letter."""
    return len(part) == 1 and unicodedata.east_asian_width(part) == "W"


def _tells(part: str) -> bool:
    # A syllable of Chinese or Korean says as much as a word of letters.
    return (len(part) >= SHORTEST_NAME or (not part.isascii() and len(part) > 1)) and not _is_common(part)


def _ids(text: str) -> _Found:
    for one in text.split("\\"):
        value = one.strip(" \0")
        if not value:
            continue
        parts = _words(unicodedata.normalize("NFKC", value))
        squeezed = "".join(parts)
        shortest = SHORTEST_NUMBER if squeezed.isdecimal() else SHORTEST_ID
        if _weight(squeezed) < shortest:
            if len(value) < SHORTEST_ID or not _NO_TEXT.search(value):  # else its bytes are searched for
                yield _Weak("too short to be searched for")
        elif _is_common(value):
            yield _Weak("too common a word to be searched for")
        else:
            shorter = fold(squeezed).lstrip("0")
            forms = {value, squeezed, shorter if len(shorter) >= max(shortest, SHORTEST_NUMBER) else value}
            forms |= {by.join(parts) for by in _BETWEEN_PARTS} if len(parts) > 1 else set()
            forms |= _in_other_digits(squeezed)
            # Between signs of Chinese, Japanese and Korean there is no blank.
            is_spaced = not any(map(_is_syllable, squeezed))
            yield from (_Strong(form, bounded=is_spaced and len(form) < _LONG_ID) for form in sorted(forms))
            yield from _rest_in_ascii(value)
            if is_spaced and len(squeezed) < _LONG_ID:
                yield _Weak(_ONLY_ALONE)
            if len(squeezed) > _LONGEST_GROUPED:
                yield _Weak(_ONLY_AS_WRITTEN)


def _weight(word: str) -> int:
    """How many letters and digits it has. A sign of Chinese, Japanese or Korean counts twice."""
    return sum(1 + _is_syllable(c) for c in word if c.isalnum())


def _in_other_digits(word: str) -> set[str]:
    plain = fold(word)
    if not plain.isascii():
        return set()
    others = {plain.translate({0x30 + n: ord(zero) + n for n in range(10)}) for zero in _ZEROS if plain.isdecimal()}
    return {*others, plain.translate(_FULL_WIDTH)}


def _rest_in_ascii(value: str) -> _Found:
    """What is left of an identifier where a program drops the letters that it does not know."""
    rest = "" if value.isascii() else re.sub(r"[^0-9A-Za-z]", "", value)
    if len(rest) >= (SHORTEST_NUMBER if rest.isdecimal() else SHORTEST_ID) and not _is_common(rest):
        yield _Strong(rest, bounded=len(rest) < _LONG_ID)


def _birth(text: str) -> _Found:
    """What date_search does not find: a date whose year has two digits."""
    digits = re.sub(r"\D", "", text)[:8]
    if len(digits) < 8:
        if digits:
            yield _Weak("no whole date that could be searched for")
        return
    year, month, day = digits[2:4], digits[4:6], digits[6:]
    numbers = {(year, month, day), (day, month, year), (month, day, year)}
    numbers |= {(day.lstrip("0"), month.lstrip("0"), year), (month.lstrip("0"), day.lstrip("0"), year)}
    yield from (_Strong(by.join(parts)) for parts in sorted(numbers) for by in ("-", ".", "/"))
    yield _Strong(digits)  # also compared as a number


def _nothing(_: str) -> _Found:
    """Only what date_search finds is searched for."""
    return iter(())


def _lines(address: str) -> list[str]:
    return [line.strip() for line in re.split(r"[\r\n\\,;^]+", address) if line.strip()]


def _phone_numbers(text: str) -> list[str]:
    """The digits of each telephone number in a value, and of those with a country's code those without it."""
    found: dict[str, None] = {}
    for one in re.split(r"[\\,;\r\n]|[a-z]+\.?", text, flags=re.IGNORECASE):
        digits = re.sub(r"\D", "", one)
        found[digits] = None
        if national := re.match(r"\s*(?:\+|00)\s*\d{1,3}[\s()/-]+(?=\d)(.*)", one, re.DOTALL):
            found[re.sub(r"\D", "", national[1]).lstrip("0")] = None
    return [digits for digits in found if digits]


def _is_institution(line: str) -> bool:
    """Whether each of its words is a maker's, or one of any hospital: Siemens Healthcare."""
    return all(fold(word) in _COMMON for word in line.split())


def _address(text: str) -> _Found:
    if len(_lines(text)) > _MOST_SEARCHES:
        yield _Weak(_TOO_MANY)
    for piece in _lines(text):
        if _is_institution(piece):
            yield _Weak("too common a word to be searched for")
        elif len(piece) >= SHORTEST_ADDRESS and not _is_common(piece):
            yield _Strong(piece, bounded=len(piece) < _LONG_ADDRESS)
        else:
            yield _Weak("a part of the address is too short to be searched for")


def _phone(text: str) -> _Found:
    if len(_phone_numbers(text)) > _MOST_SEARCHES:
        yield _Weak(_TOO_MANY)
    for digits in _phone_numbers(text):
        if len(digits) >= SHORTEST_PHONE:
            yield from (_Strong(form) for form in sorted({digits, digits.lstrip("0")}))
            if len(digits) > _LOCAL_PHONE:  # the same number without its country's
                yield _Strong(digits[-_LOCAL_PHONE:], bounded=False)
    yield from (_Strong(one.strip(" \0")) for one in text.split("\\") if len(re.sub(r"\D", "", one)) >= SHORTEST_PHONE)
    if not any(len(digits) >= SHORTEST_PHONE for digits in _phone_numbers(text)) and re.search(r"\d", text):
        yield _Weak("too short to be searched for")


def _dates(text: str, *, short: bool) -> Iterator[tuple[str, _Search]]:
    if search := date_search(text, short=short):
        yield re.sub(r"\D", "", text)[:8], search


def _addresses(text: str) -> Iterator[tuple[str, _Search]]:
    for line in _lines(text)[:_MOST_SEARCHES]:
        bounded = len(line) < _LONG_ADDRESS
        search = address_search(line, sorted(_plain(line)), fold, bounded=bounded)
        if len(line) >= SHORTEST_ADDRESS and search and not _is_institution(line):
            yield fold(line), search


def _phones(text: str) -> Iterator[tuple[str, _Search]]:
    for digits in _phone_numbers(text)[:_MOST_SEARCHES]:
        if len(digits) >= SHORTEST_PHONE:
            yield digits, phone_search(digits, _LOCAL_PHONE)


def _identifiers(text: str) -> Iterator[tuple[str, _Search]]:
    for one in text.split("\\")[:_MOST_SEARCHES]:
        words = _words(fold(one))
        is_long = _weight(unicodedata.normalize("NFKC", one)) >= SHORTEST_NUMBER
        is_too_long = sum(map(len, words)) > _LONGEST_GROUPED
        if is_long and not is_too_long and (search := identifier_search(words)):
            yield "".join(words), search


def _contacts(text: str) -> Iterator[tuple[str, _Search]]:
    """Of an address that may also hold telephone numbers."""
    yield from _addresses(text)
    yield from _phones(text)


def _no_searches(_: str) -> Iterator[tuple[str, _Search]]:
    return iter(())


_Searches = Callable[[str], Iterator[tuple[str, _Search]]]
# The searches that are made beside those for tokens.
_SEARCHES: dict[str, _Searches] = {
    ID: _identifiers,
    BIRTH: partial(_dates, short=True),
    STUDY: partial(_dates, short=False),
    ADDRESS: _contacts,
    PHONE: _phones,
}
_MAKERS: dict[str, Callable[[str], _Found]] = {
    NAME: _names,
    ID: _ids,
    BIRTH: _birth,
    STUDY: _nothing,
    ADDRESS: _address,
    PHONE: _phone,
}
