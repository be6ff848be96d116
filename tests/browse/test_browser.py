"""In a real Chromium; skipped where none is installed (`make system-packages` installs it)."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
# A page that is just being replaced by the next.
RELOADED = (WebDriverException,)

pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="chromium and chromedriver are not installed: make system-packages"
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def address(run_folder):
    command = [
        sys.executable,
        "-m",
        "nft_lightning.cli.browse",
        str(run_folder),
        "--port",
        "0",
        "--no-open",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield server.stdout.readline().split()[0]
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = Options()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options, Service(DRIVER))
    made.set_page_load_timeout(60)
    yield made
    made.quit()


def all_of(browser, css):
    return browser.find_elements(By.CSS_SELECTOR, css)


def no_script_ran(browser):
    browser.switch_to.default_content()  # raises where an alert is open
    return browser.execute_script("return window.hacked === undefined")


def test_the_list_filters_and_a_group_opens(browser, address):
    browser.get(address)
    assert browser.find_element(By.ID, "total").text == "5"
    browser.find_element(By.NAME, "text").send_keys("7+12")
    Select(browser.find_element(By.NAME, "moment")).select_by_visible_text("1")
    Select(browser.find_element(By.NAME, "verdict")).select_by_visible_text("wrong")
    browser.find_element(By.TAG_NAME, "button").click()
    WebDriverWait(browser, 20, ignored_exceptions=RELOADED).until(
        lambda b: b.find_element(By.ID, "total").text == "1"
    )
    all_of(browser, ".groups a")[0].click()
    WebDriverWait(browser, 20, ignored_exceptions=RELOADED).until(lambda b: all_of(b, "article"))
    assert len(all_of(browser, "article.right")) == len(all_of(browser, "article.wrong")) == 2
    assert len(all_of(browser, "circle")) == 4
    columns = {a.location["x"] for a in all_of(browser, "article")}
    assert len(columns) > 1  # side by side


def test_colours_are_shown_and_a_token_tells_its_numbers(browser, address):
    browser.get(address + "group?part=rollouts&file=epoch_0000&row=0")
    Select(browser.find_element(By.NAME, "colour")).select_by_value("ratio")
    browser.find_element(By.TAG_NAME, "button").click()
    WebDriverWait(browser, 60, ignored_exceptions=RELOADED).until(lambda b: all_of(b, "pre span"))
    painted = {s.value_of_css_property("background-color") for s in all_of(browser, "pre span")}
    assert len(painted) >= 3
    token = all_of(browser, "article pre span")[0]
    token.click()
    assert "log R" in browser.find_element(By.ID, "note").text
    browser.get(address + "group?part=rollouts&file=epoch_0000&row=0&colour=ratio&weights=epoch_00000")
    painted = {s.value_of_css_property("background-color") for s in all_of(browser, "pre span")}
    assert painted == {"rgba(0, 0, 0, 0)"}


def test_hostile_completions_stay_text(browser, address):
    browser.get(address)
    assert no_script_ran(browser)
    browser.get(address + "group?part=rollouts&file=epoch_0001&row=6")
    assert no_script_ran(browser)
    assert len(all_of(browser, "article")) == 4
    assert all_of(browser, "article pre")[0].text.startswith("<script>window.hacked")
    assert not all_of(browser, "article img, article script")
    width = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert width[0] <= width[1]
    browser.get(address + "group?part=rollouts&file=epoch_0001&row=6&colour=negative")
    assert all_of(browser, "article pre span")
    assert no_script_ran(browser)


def test_the_megabyte_opens_as_plain_text(browser, address):
    browser.get(address + "group?part=rollouts&file=epoch_0001&row=6")
    browser.find_element(By.LINK_TEXT, "whole text").click()
    WebDriverWait(browser, 60, ignored_exceptions=RELOADED).until(lambda b: "/text?" in b.current_url)
    assert browser.execute_script("return document.body.textContent.length") == 2**20
    browser.get(address + "text?part=rollouts&file=epoch_0001&row=6&sample=3")
    assert not all_of(browser, "script, img")
    assert no_script_ran(browser)


def test_the_browser_itself_refuses_scripts_within_the_page(browser, address):
    browser.get(address)
    browser.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.hacked = 1';"
        "document.body.append(s);"
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked=1\">')"
    )
    assert no_script_ran(browser)
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_a_phone(browser, address, scheme):
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for path in ("", "group?part=rollouts&file=epoch_0001&row=6"):
            browser.get(address + path)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
            style = browser.find_element(By.TAG_NAME, "body")
            shades = [
                sum(map(int, re.findall(r"\d+", style.value_of_css_property(p))[:3]))
                for p in ("color", "background-color")
            ]
            assert abs(shades[0] - shades[1]) > 450
            assert (shades[0] > shades[1]) == (scheme == "dark")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
