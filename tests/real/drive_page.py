"""Looks at a page in headless Chromium, with Selenium: ``drive_page.py TASK ANSWER``, the task's words on stdin.

Runs in an environment of its own, so it imports nothing of the project.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from selenium import webdriver  # type: ignore[import-not-found]
from selenium.webdriver.chrome.service import Service  # type: ignore[import-not-found]
from selenium.webdriver.common.by import By  # type: ignore[import-not-found]
from selenium.webdriver.support.ui import Select  # type: ignore[import-not-found]


def browser(width: int = 1100, *, dark: bool = False) -> Any:
    options = webdriver.ChromeOptions()
    for word in ("--headless=new", "--no-sandbox", "--hide-scrollbars", f"--window-size={width},1400"):
        options.add_argument(word)
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service("/usr/bin/chromedriver"))
    scheme = {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    return driver


def requests(driver: Any) -> list[str]:
    """The addresses that the page asked for."""
    messages = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if not url.startswith("data:")]


def visible(driver: Any) -> list[str]:
    found = driver.find_elements(By.CSS_SELECTOR, "details.session summary b")
    return [one.text for one in found]


def look(page: str, axe: str, pictures: str) -> dict[str, Any]:
    """What the page shows and does, in both themes and on a phone's width."""
    driver = browser()
    driver.get(page)
    answer: dict[str, Any] = {"title": driver.title, "headline": driver.find_element(By.TAG_NAME, "h1").text}
    answer["all"] = visible(driver)
    search = driver.find_element(By.ID, "search")
    search.send_keys("008")
    time.sleep(0.5)
    answer["searched"] = visible(driver)
    search.clear()
    search.send_keys(" ")
    Select(driver.find_element(By.ID, "show")).select_by_value("care")
    time.sleep(0.5)
    answer["care"] = visible(driver)
    driver.find_element(By.CSS_SELECTOR, "details.session summary").click()
    time.sleep(0.3)
    inside = driver.find_element(By.CSS_SELECTOR, "details.session .inside")
    answer["inside"] = inside.text
    answer["pictures"] = [
        [one.get_attribute("alt"), one.get_property("naturalWidth")] for one in inside.find_elements(By.TAG_NAME, "img")
    ]
    answer["log"] = [entry["message"] for entry in driver.get_log("browser")]
    answer["requests"] = requests(driver)
    driver.quit()
    answer["faults"], answer["wide"] = [], []
    for width in (1100, 390):
        for dark in (False, True):
            driver = browser(width, dark=dark)
            driver.get(page)
            driver.find_elements(By.CSS_SELECTOR, "details.session summary")[0].click()
            driver.execute_script(Path(axe).read_text("utf-8"))
            found = driver.execute_async_script("axe.run().then(arguments[0])")
            answer["faults"] += [
                [one["id"], one["impact"], one["nodes"][0]["html"][:200]]
                for one in found["violations"]
                if one["impact"] in ("serious", "critical")
            ]
            if driver.execute_script("return document.documentElement.scrollWidth > innerWidth"):
                answer["wide"].append(width)
            driver.save_screenshot(f"{pictures}/page-{width}-{'dark' if dark else 'light'}.png")
            driver.quit()
    return answer


def many(page: str) -> dict[str, Any]:
    """How long a page of many sessions takes to load and to filter, in seconds."""
    driver = browser()
    begun = time.monotonic()
    driver.get(page)
    loaded = time.monotonic() - begun
    begun = time.monotonic()
    driver.execute_script("search.value = 's9999'; filter()")
    answer = {"load": loaded, "filter": time.monotonic() - begun, "shown": driver.find_element(By.ID, "shown").text}
    answer["found"] = visible(driver)
    driver.execute_script("search.value = ''; filter()")
    answer["first"] = len(visible(driver))
    driver.find_element(By.ID, "more").click()
    # On a slow machine the page draws later.
    until = time.monotonic() + 30
    while (more := len(visible(driver))) == answer["first"] and time.monotonic() < until:
        time.sleep(0.1)
    answer["more"] = more
    answer["log"] = [entry["message"] for entry in driver.get_log("browser")]
    driver.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    answer["printed"] = driver.execute_script("return document.querySelectorAll('details.session').length")
    driver.quit()
    return answer


def main() -> None:
    os.environ["TMPDIR"] = "/tmp"  # Chromium keeps a socket there, whose path may not be long
    task, answer = sys.argv[1:]
    given = json.load(sys.stdin)
    found = look(**given) if task == "look" else many(**given)
    Path(answer).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
