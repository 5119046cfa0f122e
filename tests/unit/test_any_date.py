"""Which texts hold a date: what people write into descriptions. The numbers of sequences are none."""

from __future__ import annotations

import time

import pytest

from tests.planted import PERSON, patient
from tests.unit.test_deidentify_rewriting import rewritten
from xnat_ingest.core.months import MONTHS
from xnat_ingest.deidentify.any_date import DOUBTFUL, OTHER_WORDS, holds_date
from xnat_ingest.deidentify.profile import load_profile

# One line for each month. The words are as people write them, not folded.
NAMES = """
    Jan January Januar Januari Jänner Janvier janv. Enero ene. Gennaio gen Janeiro
    Feb February Februar Februari Février févr. Fevereiro fev Febrero Febbraio
    Mar March März Maerz Mrz Mars Marzo Março Maart mrt Marts
    Apr April Avril avr. Abril abr Aprile
    May Mai Mayo Maggio mag Maio Mei Maj
    Jun June Juni Juin Junio Giugno giu Junho
    Jul July Juli Juillet juil. Julio Luglio lug Julho
    Aug August Août Agosto ago Augustus
    Sep Sept September Septembre Septiembre Settembre set Setembro
    Oct October Okt Oktober Octobre Octubre Ottobre ott Outubro out
    Nov November Novembre Noviembre Novembro
    Dec December Dez Dezember Décembre Diciembre dic Dicembre Dezembro
"""
IN_NUMBERS = """
    2024-02-10|2024.2.10|2024/2/10|10.2.2024|10-02-24|2024_02_10|t1_mprage_10_02_2024|2024:02:10|10,02,2024|10 02 2024
    2024年2月10日|2024년 2월 10일|2月10日|10–02–2024|10·02·2024|10 - 02 - 2024|10—02—24|10_02_24|02_10_24|24_02_10
    10,02,24|10~02~2024|2024, 02, 10|２０２４－０２－１０|10;2;1999|scan10.02.2024|10-II-2024|10.xii.1999|5.11.2024t1
    02/2024|2/2024|2024-02|2024_02|2024.02|1999–12|02 / 2024|2567-02-10|1402/11/21|10\u00a002\u00a02024
"""  # noqa: RUF001
WITH_NAMES = """
    10FEB2024|10-Feb-2024|10 Feb 2024|Feb 10, 2024|10. Februar 2024|2024-Feb-10|2024Feb10|2024 Feb|Feb 2024|feb24
    05Sep91|10 de febrero de 2024|10th of February, 2024|1º de fevereiro|2. März|10. märz 24|10août|scan10feb24
    scan10feb2024t1|scan10mar24|10 Mar|Mar 10|10-Sep|May 2024|10set24|mag 3, 2024|3 out 24|Feb '24|2nd February
    den 10. oktober|10_dec_24|Feb 1st|2 avril|MAI_2|T1 mar 2024|e3 FEB 3|10 de março
"""
NO_DATES = """
    T1_mprage_1_1_2|ep2d_10_02|mar|T1 mar|T1 mar 2|T1 Feb|February|2024|10.2.|10/2|2x2x2|1.2.3|v1.2.3|v1.2024|Mayo 2
    t1_mprage_sag_p2_iso|ep2d 64 dirs b1000|iso 0.8-0.8-0.8 v2.1.3|1.25_1.25_1.25|ep2d_2_2_20|TE 5,10,15|b=50, 400, 800
    field map mag 2|gre_te_10_mag|set 2|out 10|FEV1|OCT 2|MRT 12|SE3 dec 3|dataset 2024|scout 2000|marching 10
    10 febrile|b0_1000_2000|b10 2000|2000 10|TE/TR 30/2000|TR/TE 2000/30|dti_64_2000|2024-13|13/2024|00/2024|2024_00_10
    2024_13_10|32_13_2024|13_14_24|10_32_24|24_13_10|32_02_41|0:05:30|10:02:24|localizer_3_plane|Frames 19-20|2000_2,55
    1802_02_1024|110_13_2024|10_02_20241|2_2_24|0 feb x|feb 0|feb 100|32 xii|10.iiii.2024|10.V.24|1799_02_10
    10__.__02__24|2024 02|12 2024|(2) 2024|1,2024|0.10_2000
"""


def written(table: str) -> list[str]:
    return [text for line in table.strip().splitlines() for text in line.strip().split("|")]


def left(text: str) -> str:
    before = patient(PERSON)
    before.SpecificCharacterSet = "ISO_IR 192"
    before.SeriesDescription = text
    return str(rewritten(before, load_profile("research-mr")).SeriesDescription)


@pytest.mark.parametrize("text", [*written(IN_NUMBERS), *written(WITH_NAMES), "10|02|2024"])
def test_a_description_with_a_date_is_replaced(text: str) -> None:
    assert left(text) == left(f"T1 ({text})") == "ANONYMIZED"


@pytest.mark.parametrize("text", written(NO_DATES))
def test_a_description_with_other_numbers_stays(text: str) -> None:
    assert left(text) == text


@pytest.mark.parametrize("number", range(12))
def test_names_of_months(number: int) -> None:
    """Each with a day and a year. Without a year only those count that mean nothing else."""
    for name in NAMES.strip().splitlines()[number].split():
        assert left(f"3 {name} 2024") == left(f"{name} 2024") == left(f"2024{name}") == "ANONYMIZED", name
        plain = name.rstrip(".").lower().replace("ç", "c").replace("é", "e")
        alone = left(f"3 {name}") == "ANONYMIZED"
        assert alone == (plain not in DOUBTFUL | OTHER_WORDS), name
        assert (left(f"13 {name}") == "ANONYMIZED") == (plain not in OTHER_WORDS), name
        assert left(f"T1 {name}") == f"T1 {name}"


def test_names_that_need_more_are_names() -> None:
    names = [name for month in MONTHS for name in month]
    assert len(names) == len(set(names))
    assert set(names) >= DOUBTFUL | OTHER_WORDS
    assert not DOUBTFUL & OTHER_WORDS


@pytest.mark.parametrize("run", ["y", "1-", "10 ", "feb ", " ", "10.", "de ", "10th ", "1é", "1_1_", "2024 "])
def test_a_long_text_without_a_date_takes_no_time(run: str) -> None:
    begun = time.process_time()
    holds_date(run * (400_000 // len(run)))
    assert time.process_time() - begun < 5
