"""The months, as people and spreadsheets write them."""
# ruff: noqa: RUF001 - Greek and Cyrillic letters are meant

from __future__ import annotations

import unicodedata

# The names of the months and their abbreviations, folded: English, German, French, Spanish, Italian, Portuguese, Dutch,
# Danish.
MONTHS = tuple(
    frozenset(line.split())
    for line in (
        "jan january januar januari janner jaenner janvier janv enero ene gennaio gen janeiro",
        "feb february februar februari feber fevrier fevr fev febrero febbraio febb fevereiro",
        "mar march marz maerz mrz mars marzo marco maart mrt marts",
        "apr april avril avr abril abr aprile",
        "may mai mayo maggio mag maio mei maj",
        "jun june juni juin junio giugno giu junho",
        "jul july juli juillet juil julio luglio lug julho",
        "aug august aout agosto ago augustus",
        "sep sept september septembre septiembre setiembre settembre sett setembro set",
        "oct october okt oktober octobre octubre ottobre ott outubro out",
        "nov november novembre noviembre novembro",
        "dec december dez dezember decembre diciembre dic dicembre dezembro",
    )
)
# Abbreviations that spreadsheets show in other languages, with their accents: Turkish şub is no `sub`. Czech, Polish,
# Croatian, Hungarian, Romanian, Finnish, Estonian, Norwegian, Turkish, Russian, Ukrainian, Greek. Two languages may
# give one word to two months.
_OTHERS = tuple(
    frozenset(line.split())
    for line in (
        "ian jaan led sty sij tammi oca янв січ ιαν",
        "úno lut velj helmi şub veebr фев февр лют φεβ",
        "bře márc ožu maalis märts мар марта бер μαρ μάρ",
        "dub kwi tra huhti ápr nis апр кві απρ",
        "kvě máj svi touko май мая тра μαι μαϊ μάι",
        "čvn cze jún iun juuni kesä lip haz июн чер ιουν",
        "čvc lip júl iul juuli heinä srp tem июл лип ιουλ",
        "srp sie elo kol ağu авг сер αυγ",
        "zář wrz szept syys ruj eyl сен сент вер σεπ",
        "říj paź loka lis eki окт жов οκτ",
        "lis noi marras stu kas ноя нояб лис νοε",
        "pro gru des joulu ara dets дек гру δεκ",
    )
)


def months_of(word: str) -> frozenset[int]:
    """The months that a word can mean, from 1; none for other words."""
    small = unicodedata.normalize("NFC", word.casefold())
    folded = "".join(c for c in unicodedata.normalize("NFD", small) if not unicodedata.combining(c))
    names = enumerate(zip(MONTHS, _OTHERS, strict=True), 1)
    return frozenset(number for number, (known, others) in names if folded in known or small in others)
