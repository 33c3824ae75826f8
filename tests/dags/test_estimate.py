"""What a bulk send will cost: its dry run, its budget, and the command; and what it did cost."""

from __future__ import annotations

import inspect
import json
from datetime import timedelta

import pytest
from full_size import full_size

from airflow_provider_omnimessage.alerts import DeadMansSwitch, HeartbeatOperator
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.estimate import Prices, price_as_text
from airflow_provider_omnimessage.api.messages import sms, viber
from airflow_provider_omnimessage.bulk.estimate import load_prices
from airflow_provider_omnimessage.hooks import settings
from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier
from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator
from airflow_provider_omnimessage.operators.omnimessage import CancelScheduledMessageOperator
from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor

PEOPLE = [
    {"to": "+37255555555", "text": "a" * 161},
    {"to": "+12025550142", "text": "short"},
    {"to": "12", "text": "a"},
    {"to": "+37255555556", "text": "ž" * 70},
]
PRICES = {"372": 0.05, "+1": 0.01, "1809": 9}


def send(**settings):
    defaults = {"task_id": "send", "messages": [viber("$text"), sms("$text")], "recipients": PEOPLE, "prices": PRICES}
    return ScheduleBulkOmnimessageOperator(**{**defaults, **settings})


def test_a_dry_run_sends_nothing_and_returns_the_estimate(dag, run_dag, sandbox):
    send(dry_run=True, time_to_send="2098-11-24T03:00", timezone="recipient", window="09:00-20:00", retries=0)
    run = run_dag(dag)
    result = run.xcom("send")
    assert run.state == "success"
    assert sandbox.requests == []
    assert {name: result[name] for name in ("rows", "recipients", "rejected", "sms_parts", "parts", "price")} == {
        "rows": 4,
        "recipients": 3,
        "rejected": 1,
        "sms_parts": 4,
        "parts": [2, 1, None, 1],
        "price": 0.16,
    }
    (problem,) = result["problems"]
    assert problem.startswith("row 3, to: ")
    assert result["per_hour"] == [
        {"hour": "2098-11-24T09:00", "zone": "America/New_York", "messages": 1},
        {"hour": "2098-11-24T09:00", "zone": "Europe/Bucharest", "messages": 2},
    ]
    assert result["per_parts"] == [{"sms_parts": 1, "recipients": 2}, {"sms_parts": 2, "recipients": 1}]
    assert [(each["row"], each["to"], each["sms_parts"]) for each in result["most_parts"]] == [
        (1, "+37255•••55", 2),
        (2, "+12025•••42", 1),
        (4, "+37255•••56", 1),
    ]
    assert "With 2 SMS parts: 1 recipient" in run.log
    assert "With 1 SMS part: 2 recipients" in run.log
    assert "1 recipients" not in run.log
    assert "Dry run, nothing was sent: 3 of 4 rows can be sent, with 4 SMS parts; price: 0.16" in run.log


@pytest.mark.parametrize("operator", [CancelScheduledMessageOperator, OmnimessageDeliverySensor])
def test_a_task_after_a_dry_run_says_that_nothing_was_sent(dag, run_dag, operator):
    operator(task_id="after", omnimessage_id=send(dry_run=True).output, retries=0)
    run = run_dag(dag)
    assert run.tasks["after"] == "failed"
    assert "omnimessage_id: is the estimate of a dry run, which sends nothing; set dry_run=False" in run.log


@full_size
@pytest.mark.parametrize(
    ("budget", "prices", "state", "words"),
    [
        (0.15, PRICES, "failed", "the estimate of 0.16 is higher than 0.15 (4 SMS parts to 3 recipients)"),
        (0.16, PRICES, "success", "3 accepted"),
        (50.0, "{{ none }}", "failed", "budget: needs prices; set prices to what an SMS part costs"),
        (50.0, {"372": 0.05}, "failed", "1 recipient has no price (+1); add its country prefix to prices"),
    ],
)
def test_a_budget_stops_a_send_before_the_first_request(dag, run_dag, sandbox, budget, prices, state, words):
    send(budget=budget, prices=prices, on_invalid="drop", retries=1, retry_delay=timedelta(0))
    run = run_dag(dag)
    assert run.tasks == {"send": state}
    assert words in run.log
    assert (sandbox.requests == []) == (state == "failed")
    assert run.tries == {"send": 1}


LATE = [
    {"to": "+37255555551", "text": "a", "time_to_send": "2020-01-01T09:00"},
    {"to": "+37255555552", "text": "a", "time_to_send": "2098-01-01T09:00"},
    {"to": "+37255555553", "text": "a", "time_to_send": "2020-01-01T09:00"},
]


@pytest.mark.parametrize(
    ("on_past", "counts", "parts", "log"),
    [
        ("fail", {"recipients": 1, "rejected": 2, "skipped": 0}, [None, 1, None], "Rejected: 2 rows"),
        ("skip", {"recipients": 1, "rejected": 0, "skipped": 2}, [None, 1, None], "Skipped: 2 rows whose time is in"),
        ("send_now", {"recipients": 3, "rejected": 0, "skipped": 0}, [1, 1, 1], "3 of 3 rows can be sent"),
    ],
)
def test_a_dry_run_counts_a_row_whose_time_is_in_the_past_as_on_past_says(dag, run_dag, on_past, counts, parts, log):
    send(recipients=LATE, dry_run=True, on_past=on_past, window="00:00-24:00")
    run = run_dag(dag)
    result = run.xcom("send")
    assert {name: result[name] for name in counts} == counts
    assert (result["parts"], result["sms_parts"]) == (parts, counts["recipients"])
    assert result["price"] == pytest.approx(0.05 * counts["recipients"])
    assert sum(each["messages"] for each in result["per_hour"]) == counts["recipients"]
    assert log in run.log


@pytest.mark.parametrize("settings", [{"on_past": "skip"}, {"on_invalid": "drop"}])
def test_a_budget_counts_what_is_sent_only(dag, run_dag, sandbox, settings):
    send(recipients=LATE, budget=0.05, **settings)
    run = run_dag(dag)
    assert run.state == "success"
    assert [message["to"] for message in sandbox.messages] == ["+37255555552"]


def test_a_dry_run_logs_who_has_no_price(dag, run_dag, tmp_path):
    send(task_id="some", recipients=PEOPLE[:2], dry_run=True, prices={"372": 0.05})
    send(task_id="all", recipients=PEOPLE[:2], dry_run=True, prices={"44": 0.05})
    run = run_dag(dag)
    assert "price: 0.10; 1 recipient has no price (+1)" in run.log
    assert "price: unknown; 2 recipients have no price (+372, +1)" in run.log
    assert run.xcom("all")["unpriced_codes"] == {"+372": 1, "+1": 1}


@full_size
def test_a_wait_returns_the_actual_cost_of_a_bulk_send(dag, run_dag, sandbox):
    sent = ScheduleBulkOmnimessageOperator(task_id="send", recipients=PEOPLE[:2], messages=[sms("$text")])
    OmnimessageDeliverySensor(task_id="wait", omnimessage_id=sent.output, poke_interval=0.1, mode="poke")
    price = float(run_dag(dag).xcom("wait")["price"])
    reports = [sandbox.messages[0]["statuses"][0], sandbox.messages[1]["statuses"][0]]
    assert price == pytest.approx(sum(float(report["price_info"]["total_price"]) for report in reports))


@pytest.mark.parametrize("alert", [HeartbeatOperator, DeadMansSwitch, OmnimessageNotifier])
def test_no_budget_can_stop_an_alert(alert):
    assert "budget" not in inspect.signature(alert.__init__).parameters
    assert "budget" not in settings._EXTRA, "nor one of the connection"


@pytest.mark.parametrize(
    ("name", "content"), [("prices.json", json.dumps(PRICES)), ("prices.csv", "prefix,price\n372,0.05\n+1,0.01\n")]
)
def test_prices_are_read_from_files(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content)
    prices = load_prices(str(path))
    assert [prices.of_part(number) for number in ("+37255555555", "+12025550142", "+818012345678")] == [
        0.05,
        0.01,
        None,
    ]


@pytest.mark.parametrize("form", [dict, json.dumps, str], ids=["dict", "JSON", "what a template renders"])
@pytest.mark.parametrize("prices", [PRICES, {372: "0.05", 1: 0.01}], ids=["texts", "numbers"])
def test_prices_are_a_dict_in_any_form(form, prices):
    for read in (load_prices, Prices.of):
        assert [read(form(prices)).of_part(number) for number in ("+37255555555", "+12025550142")] == [0.05, 0.01]
    assert load_prices(form({})).of_part("+37255555555") is None


def test_prices_are_rendered_from_a_dict(dag, run_dag, sandbox):
    send(dry_run=True, prices="{{ dag_run.conf['prices'] }}", retries=0)
    run = run_dag(dag, prices=PRICES)
    assert run.state == "success", run.log
    assert run.xcom("send")["price"] == 0.16


def test_the_longest_prefix_counts():
    assert Prices(PRICES).of_part("+18095550142") == 9


@pytest.mark.parametrize(
    ("prices", "words"),
    [
        ("prices.txt", "is not a file of prices; use a path that ends in .json or .csv, or a dict"),
        ({"EE": 1}, "'EE' is not a country prefix; map country prefixes"),
        ({"00372": 1}, "'00372' is not a country prefix"),
        ({"372": 0.05, "+372": 0.06}, "'372' has two prices; leave one of them out"),
        ({"372": -1}, "is not a price"),
        ({"372": "free"}, "is not a price"),
        ([1], "is not a file of prices"),
        ("[1]", "a list is not accepted; map country prefixes"),
        ("{'EE': 1}", "'EE' is not a country prefix; map country prefixes"),
        ("{'372'", "is not a file of prices"),
        ('{"372": 0.05, "1": 0.01, "372": 0.06}', "'372' has two prices; leave one of them out"),
    ],
)
def test_invalid_prices_are_rejected(prices, words):
    with pytest.raises(InvalidInputError, match=words):
        load_prices(prices)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("prices.csv", "prefix,price\n372,0.05\n1,0.01\n+372,0.06\n", "'372' has two prices"),
        ("prices.csv", "prefix,price\n372,0,05\n", "line 2 of the file has more cells than its first line"),
        ("prices.csv", "country,price\n372,0.05\n", "the file lacks a column"),
        ("prices.json", '{"372": 0.05, "1": 0.01, "372": 0.06}', "'372' has two prices"),
        ("prices.json", "[372]", "the file does not hold a JSON object"),
        ("prices.json", '{"372": 0.05', "the file cannot be read"),
        ("prices.json", "[" * 100_000, "the file cannot be read"),
        ("prices.csv", "prefix,price\n372,0.05\u20ac".encode("cp1252"), "the file cannot be read"),
    ],
)
def test_invalid_files_of_prices_are_rejected(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidInputError, match=words):
        load_prices(str(path))


def test_a_prefix_may_be_listed_twice_with_the_same_price(tmp_path):
    (tmp_path / "prices.csv").write_text("prefix,price\n372,0.05\n372,0.050\n")
    assert load_prices(str(tmp_path / "prices.csv")).of_part("+37255555555") == 0.05


def test_a_file_of_prices_that_cannot_be_read_now_takes_the_retries_of_the_task(dag, run_dag, sandbox, tmp_path):
    path = tmp_path / "prices.csv"

    def wait_for_prices(context):
        path.write_text("prefix,price\n372,0.05\n1,0.01\n")

    send(
        budget=1,
        prices=str(path),
        recipients=PEOPLE[:2],
        retries=1,
        retry_delay=timedelta(0),
        on_retry_callback=wait_for_prices,
    )
    run = run_dag(dag)
    assert (run.tasks, run.tries) == ({"send": "success"}, {"send": 2})


@pytest.mark.parametrize(
    ("price", "text"), [(0, "0.00"), (0.0045, "0.0045"), (0.1 + 0.2, "0.30"), (1234.5, "1,234.50"), (50.001, "50.001")]
)
def test_prices_are_shown_with_the_decimals_that_they_have(price, text):
    assert price_as_text(price) == text


@pytest.mark.parametrize(("budget", "words"), [(0, "greater than 0"), ("50", "is not accepted"), (5, "needs prices")])
def test_a_wrong_budget_is_seen_while_the_dag_is_parsed(budget, words):
    with pytest.raises(InvalidInputError, match=words):
        send(budget=budget, prices=None)
