"""The report page in a real browser: it runs nothing that a model wrote, and the keyboard is enough."""

import json
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from runs import Engine, built

from fusedata.report.page import write_report

pytestmark = pytest.mark.browser

FORMULA = r"\(\frac{-b \pm \sqrt{b^2-4ac}}{2a}\)"
HOSTILE = (
    '</script><script>window.broken=1</script><img src=x onerror="window.broken=2"> $<img src=x>$ '
    r"$\unknown <img src=x onerror=window.broken=3>$ $\text{<img src=x onerror=window.broken=4>}$"
)


def say(prompt: str, sample: int) -> str:
    number = int(prompt.split()[2])
    text = f"Let {FORMULA} be. {HOSTILE}" if number % 2 else "```python\nprint(1 < 2)\n```"
    word = "right" if sample else "wrong"
    return f"{text} A {word} way. The answer is {2 * number + 1 + sample}."


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium on the page of a small run."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not (chromium and driver):
        pytest.skip("no chromium with its chromedriver here (scripts/browser installs them)")
    folder = tmp_path_factory.mktemp("browser")
    path = folder / "report.html"
    write_report(built(folder, engine=Engine(say)), path)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1400,900"):
        options.add_argument(argument)
    if os.getuid() == 0:
        options.add_argument("--no-sandbox")  # as root Chromium has none
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options, webdriver.ChromeService(driver))
    found.get(path.as_uri())
    yield found
    found.quit()


@pytest.fixture(autouse=True)
def fresh(browser: Any) -> None:
    """Begin each test on a page just loaded, with an empty log."""
    browser.get_log("browser")
    browser.refresh()


def run(browser: Any, code: str) -> Any:
    return browser.execute_script(f"return {code}")


def press(browser: Any, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def selected(browser: Any) -> int:
    return int(run(browser, "document.querySelector('.pair[aria-selected=true]').getAttribute('aria-posinset')"))


def search(browser: Any, text: str) -> None:
    browser.find_element("id", "search").send_keys(text)


def test_nothing_that_a_model_wrote_runs_or_becomes_an_element(browser: Any) -> None:
    search(browser, "window.broken")
    assert run(browser, "document.getElementById('detail').textContent.includes('window.broken=1')")
    assert run(browser, "window.broken") is None
    assert run(browser, "document.querySelectorAll('img').length") == 0
    assert run(browser, "document.scripts.length") == 2


def test_even_a_script_that_got_in_would_not_run_nor_reach_the_network(browser: Any) -> None:
    browser.execute_script(
        "const made = document.createElement('script'); made.textContent = 'window.broken = 5'; document.body.append(made)"
    )
    assert run(browser, "window.broken") is None
    reached = "fetch('http://localhost:9/').then(() => 'reached', () => 'refused')"
    assert run(browser, reached) == "refused"
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


def test_the_page_asks_for_nothing_and_says_no_error(browser: Any) -> None:
    assert run(browser, "performance.getEntriesByType('resource').length") == 0
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_a_formula_is_mathml_of_some_height(browser: Any) -> None:
    search(browser, "frac")
    assert run(browser, "document.querySelectorAll('#detail math mfrac msqrt').length") == 2
    box = "document.querySelector('#detail mfrac').getBoundingClientRect()"
    assert run(browser, f"{box}.height") > 15


def test_code_stays_code(browser: Any) -> None:
    search(browser, "print")
    assert "print(1 < 2)" in run(browser, "document.querySelector('#detail article code').textContent")


def test_the_difference_is_marked_and_what_is_common_is_not(browser: Any) -> None:
    marks = {mark.text for mark in browser.find_elements("css selector", "#detail ins, #detail del")}
    assert {"right", "wrong"} <= marks
    assert not [mark for mark in marks if "way" in mark]
    browser.find_element("id", "marks").click()
    assert not browser.find_elements("css selector", "#detail ins, #detail del")


def test_the_arrow_keys_walk_through_the_pairs(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    run(browser, "document.getElementById('list').focus()")
    press(browser, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert selected(browser) == 3
    described = run(browser, "document.getElementById('list').getAttribute('aria-activedescendant')")
    assert run(browser, f"document.getElementById('{described}').getAttribute('aria-selected')") == "true"
    press(browser, Keys.END)
    assert selected(browser) == run(browser, "data.total")
    press(browser, Keys.HOME)
    assert selected(browser) == 1
    press(browser, Keys.ENTER)
    assert run(browser, "document.activeElement.id") == "detail"
    press(browser, Keys.ESCAPE)
    assert run(browser, "document.activeElement.id") == "list"


def test_tab_reaches_every_control_in_order_and_focus_is_seen(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    run(browser, "document.getElementById('theme').focus()")
    reached = []
    for _ in range(16):
        press(browser, Keys.TAB)
        reached.append(run(browser, "document.activeElement.id || document.activeElement.tagName"))
        assert run(browser, "getComputedStyle(document.activeElement).outlineStyle") != "none"
        if reached[-1] == "detail":
            break
    controls = ["corpus", "model", "split", "low", "high", "search", "order", "texts", "marks", "list", "detail"]
    assert [name for name in reached if name in controls] == controls


def test_filters_leave_the_pairs_that_fit(browser: Any) -> None:
    total = run(browser, "data.total")
    gaps = run(browser, "places.map(gap)")
    middle = sorted(gaps)[len(gaps) // 2]
    browser.find_element("id", "low").send_keys(json.dumps(middle))
    left = run(browser, "places.length")
    assert left == sum(g >= middle - 1e-9 for g in gaps) < total
    assert browser.find_element("id", "found").text == f"{left} of {total} pairs"
    search(browser, "no text has these words")
    assert browser.find_element("id", "detail").text == "No pair fits the filters."


def test_the_theme_turns_with_the_button(browser: Any) -> None:
    back = "getComputedStyle(document.body).backgroundColor"
    before = run(browser, back)
    browser.find_element("id", "theme").click()
    assert run(browser, back) != before
    browser.find_element("id", "theme").click()
    assert run(browser, back) == before


def test_only_the_rows_in_sight_are_elements(browser: Any) -> None:
    script = """
        const many = 65000;
        for (const key of Object.keys(columns)) columns[key] = Array.from({length: many}, (_, i) => columns[key][i % data.total]);
        data.total = many; filter(); choose(40000);
        return [places.length, document.querySelectorAll('.pair').length, active];
    """
    count, elements, at = browser.execute_script(script)
    assert (count, at) == (65_000, 40_000)
    assert elements < 100
    assert selected(browser) == 40_001


@pytest.mark.parametrize(
    ("source", "element"),
    [
        (r"x^{2}_i", "msubsup"),
        (r"\sum_{i=1}^n i", "munderover"),
        (r"\sqrt[3]{2}", "mroot"),
        (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", "mtable"),
        (r"\begin{cases} 1 & x > 0 \\ 0 & \text{else} \end{cases}", "mtable"),
        (r"\begin{aligned} x &= 1 \\ y &= 2 \end{aligned}", "mtable"),
        (r"\left( \frac{1}{2} \right)", "mfrac"),
        (r"\boxed{42}", ".boxed"),
        (r"\overline{AB} \perp \vec{v}", "mover"),
        (r"90^\circ", "msup"),
        (r"f''(x) \le 1{,}000", "msup"),
        (r"\dfrac12", "mfrac"),
        ("(p + q)^2", "mo[stretchy=false]"),
    ],
)
def test_formulas_that_models_write_are_set(browser: Any, source: str, element: str) -> None:
    assert run(browser, f"Boolean(formula({json.dumps(source)}, false)?.querySelector({json.dumps(element)}))")


@pytest.mark.parametrize(
    "source",
    [
        r"\unknown{x}",
        "{",
        r"\frac{1}",
        "}",
        r"\left(",
        "a & b",
        r"\begin{evil}x\end{evil}",
        "{" * 400,
        r"\text{",
        r"\begin{pmatrix} 1",
    ],
)
def test_what_cannot_be_set_is_shown_as_it_was_written(browser: Any, source: str) -> None:
    assert run(browser, f"formula({json.dumps(source)}, false)") is None
    assert run(browser, f"typeset({json.dumps('$' + source + '$')}).textContent") == f"${source}$"
