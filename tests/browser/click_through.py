"""Opens a report in headless Chromium and uses it as a reader would: toggles, hovers, zooms.

    python3 click_through.py runs/quick/report.html [FOLDER FOR SCREENSHOTS]

Needs Chromium, chromedriver and selenium. Fails on a console message, on a request that leaves the page, and where the
page does not answer.
"""

import hashlib
import json
import sys
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.chrome.service import Service


def browser():
    options = webdriver.ChromeOptions()
    for argument in ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1200,1000"]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)


def center(driver, element):
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)


def tip(driver):
    """The text that a pointer brings up; none where it is hidden."""
    element = driver.find_element(By.ID, "tip")
    return element.text if element.is_displayed() else None


def check_lines(driver, figure):
    """A legend's button hides its curve and brings it back, or leaves it alone; pointer and arrow keys get values."""
    curves = lambda: [g.is_displayed() for g in figure.find_elements(By.CSS_SELECTOR, "[data-series]")]
    buttons = figure.find_elements(By.CSS_SELECTOR, ".legend:last-of-type button")
    center(driver, figure)
    before = curves()
    assert all(before), "all curves are there"
    buttons[0].click()
    assert buttons[0].get_attribute("aria-pressed") == "false" and curves() != before, "a click hides a curve"
    buttons[0].click()
    assert curves() == before, "another click brings it back"
    if len(buttons) > 1:
        ActionChains(driver).double_click(buttons[1]).perform()
        pressed = [b.get_attribute("aria-pressed") == "true" for b in buttons]
        assert pressed == [i == 1 for i in range(len(buttons))], "a double click leaves one alone"
        ActionChains(driver).double_click(buttons[1]).perform()
        assert curves() == before, "and another brings all back"
        buttons[1].send_keys(Keys.SHIFT + Keys.ENTER)
        alone = [b.get_attribute("aria-pressed") == "true" for b in buttons]
        assert alone == pressed, "Shift and Enter leave one alone"
        buttons[1].send_keys(Keys.SHIFT + Keys.ENTER)
        assert curves() == before, "and bring all back"
        buttons[1].send_keys(Keys.ENTER)
        assert buttons[1].get_attribute("aria-pressed") == "false", "Enter turns off"
        buttons[1].send_keys(Keys.ENTER)
        assert curves() == before, "and on"
    svg = figure.find_element(By.CSS_SELECTOR, "svg")
    ActionChains(driver).move_to_element(svg).perform()
    said = tip(driver)
    assert said and any(c.isdigit() for c in said), f"the pointer gets values: {said!r}"
    ActionChains(driver).move_to_element(figure.find_element(By.TAG_NAME, "h3")).perform()
    assert tip(driver) is None, "which go with it"
    assert driver.execute_script("return arguments[0].tabIndex", svg) == 0, "Tab reaches the curves"
    svg.send_keys(Keys.ARROW_RIGHT)
    first = tip(driver)
    svg.send_keys(Keys.ARROW_RIGHT)
    assert first and tip(driver) != first, f"the arrow keys get values: {first!r}, {tip(driver)!r}"
    svg.send_keys(Keys.ESCAPE)
    assert tip(driver) is None, "which Escape hides"


def check_map(driver, figure):
    """Classes toggle, buttons and wheel zoom, pointer and arrow keys get the image of a point."""
    canvas = figure.find_element(By.CSS_SELECTOR, "canvas.map")
    center(driver, canvas)
    pixels = lambda: driver.execute_script("return arguments[0].toDataURL()", canvas)
    zoom = lambda: float(canvas.get_attribute("data-zoom"))
    whole = pixels()
    button = figure.find_elements(By.CSS_SELECTOR, ".legend button")[0]
    button.click()
    assert pixels() != whole, "a class can be hidden"
    button.click()
    assert pixels() == whole, "and shown"
    center(driver, canvas)
    figure.find_element(By.CSS_SELECTOR, ".zoom button").click()
    assert zoom() > 1 and pixels() != whole, "a button zooms"
    figure.find_elements(By.CSS_SELECTOR, ".zoom button")[2].click()
    assert zoom() == 1 and pixels() == whole, "and back"
    ActionChains(driver).scroll_from_origin(ScrollOrigin.from_element(canvas), 0, -300).perform()
    assert zoom() > 1, "the wheel zooms"
    figure.find_elements(By.CSS_SELECTOR, ".zoom button")[2].click()
    plot = json.loads(figure.find_element(By.TAG_NAME, "script").get_attribute("textContent"))["scatter"]
    x, y = plot["points"][0]
    size = canvas.size["width"]
    offset = [round((at / 10000 * 0.94 + 0.03 - 0.5) * size) for at in (x, y)]
    ActionChains(driver).move_to_element_with_offset(canvas, *offset).perform()
    said = tip(driver)
    assert said and "test image" in said, f"the pointer gets an image: {said!r}"
    picture = driver.find_element(By.CSS_SELECTOR, "#tip canvas")
    drawn = driver.execute_script(
        "return new Set(arguments[0].getContext('2d').getImageData(0, 0, 32, 32).data).size", picture)
    assert drawn > 8, "which is drawn"
    ActionChains(driver).move_to_element(figure.find_element(By.TAG_NAME, "h3")).perform()
    assert canvas.aria_role in ("img", "image") and canvas.accessible_name, "the map has a name"
    canvas.send_keys(Keys.ARROW_RIGHT)
    first = tip(driver)
    canvas.send_keys(Keys.ARROW_RIGHT)
    assert "test image" in first and tip(driver) != first, f"the arrow keys get images: {first!r}, {tip(driver)!r}"
    canvas.send_keys(Keys.ESCAPE)
    assert tip(driver) is None, "which Escape hides"


def check_matrix(driver, figure):
    """Pointer and arrow keys get the counts of a large confusion matrix's cells."""
    svg = figure.find_element(By.CSS_SELECTOR, "svg")
    left, top, side = map(float, svg.find_element(By.CSS_SELECTOR, ".cells").get_attribute("data-cells").split())
    driver.execute_script("arguments[0].scrollIntoView({block: 'start', inline: 'start'})", svg)
    x, y = driver.execute_script(
        "const at = new DOMPoint(arguments[1], arguments[2]).matrixTransform(arguments[0].getScreenCTM()); return [at.x, at.y]",
        svg, left + side / 2, top + side / 2)
    move = ActionBuilder(driver)
    move.pointer_action.move_to_location(round(x), round(y))
    move.perform()
    said = tip(driver)
    assert said and ", predicted as " in said, f"the pointer gets a count: {said!r}"
    # Names may be outlines, which are no text.
    shown = lambda: driver.find_element(By.ID, "tip").get_attribute("innerHTML")
    first = shown()
    svg.send_keys(Keys.ARROW_RIGHT)
    assert tip(driver) and shown() != first, "the arrow keys get the next"
    svg.send_keys(Keys.ESCAPE)
    assert tip(driver) is None, "which Escape hides"


def check_seal(driver, page):
    """The page ends with the SHA-256 of its bytes before, and names every other file of the report with its own."""
    text = driver.find_element(By.ID, "seal").get_attribute("textContent")
    seal, bytes_ = json.loads(text), page.read_bytes()
    body = bytes_[:bytes_.rindex(seal["sha256"].encode())]
    assert hashlib.sha256(body).hexdigest() == seal["sha256"], "the page is as it was written"
    for name, expected in seal["files"].items():
        assert hashlib.sha256((page.parent / name).read_bytes()).hexdigest() == expected, name
    manifest = (page.parent / "manifest.json").read_bytes()
    assert hashlib.sha256(manifest).hexdigest() == seal["runs"][0]["manifest_sha256"], "of this manifest"


def screenshots(driver, url, folder):
    """As a desktop, a phone and a dark desktop show it, whole; and as it is printed."""
    import base64

    looks = {"desktop": (1200, 1, "light"), "phone": (390, 2, "light"), "dark": (1200, 1, "dark")}
    for name, (width, scale, scheme) in looks.items():
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
            "features": [{"name": "prefers-color-scheme", "value": scheme}]})
        metrics = {"width": width, "height": 900, "deviceScaleFactor": scale, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.get(url)
        inside = driver.execute_script("return document.documentElement.scrollWidth")
        assert inside <= width, f"{name}: the page is {inside} pixels wide, wider than the window"
        height = driver.execute_script("return document.documentElement.scrollHeight")
        shot = driver.execute_cdp_cmd("Page.captureScreenshot", {
            "captureBeyondViewport": True, "clip": {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}})
        (folder / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    pdf = driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    (folder / "print.pdf").write_bytes(base64.b64decode(pdf["data"]))


def main():
    path = Path(sys.argv[1]).resolve()
    driver = browser()
    try:
        driver.get(path.as_uri())
        figures = driver.find_elements(By.TAG_NAME, "figure")
        assert figures, "there are figures"
        check_seal(driver, path)
        kinds = {"lines": check_lines, "scatter": check_map}
        found = dict.fromkeys(kinds, 0)
        for figure in figures:
            kind = figure.get_attribute("class").split()[0]
            if kind in kinds:
                kinds[kind](driver, figure)
                found[kind] += 1
            elif "matrix wide" in figure.get_attribute("class"):
                check_matrix(driver, figure)
        assert all(found.values()), f"there are curves and maps: {found}"
        assert len(driver.find_elements(By.CLASS_NAME, "hint")) == 1, "how to use figures is said once"
        if len(sys.argv) > 2:
            screenshots(driver, path.as_uri(), Path(sys.argv[2]))
        messages = driver.get_log("browser")
        assert not messages, f"console: {messages}"
        entries = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
        asked = [e["params"]["request"]["url"] for e in entries if e["method"] == "Network.requestWillBeSent"]
        out = [url for url in asked if not url.startswith((path.as_uri(), "data:"))]
        assert not out, f"requests that leave the page: {out}"
    finally:
        driver.quit()
    print(f"{len(figures)} figures, {found['lines']} with curves and {found['scatter']} maps, which answer")


main()
