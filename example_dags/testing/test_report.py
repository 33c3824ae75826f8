"""Test a DAG with a dead man's switch. No message leaves this machine, and no test waits."""

from __future__ import annotations

from datetime import timedelta

DAG_ID = "omnimessage_dead_mans_switch"


def test_work_that_is_done_in_time_cancels_the_alert(dags, omnimessage_sandbox):
    dags[DAG_ID].test()
    omnimessage_sandbox.assert_one_cancelled(to="+37255555555")
    omnimessage_sandbox.advance(timedelta(hours=1))
    omnimessage_sandbox.assert_nothing_sent()


def test_an_alert_is_sent_if_the_work_fails(dags, omnimessage_sandbox):
    dags[DAG_ID].test(run_conf={"work_fails": True})
    alert = omnimessage_sandbox.assert_one_scheduled(text="Report is late", channels=["sms"])
    omnimessage_sandbox.advance_to_next_message()
    sent = omnimessage_sandbox.assert_one_sent(to="+37255555555", at=alert["time_to_send"])
    assert sent["omnimessage_id"] == alert["omnimessage_id"]


def test_the_work_runs_even_if_messente_is_down(dags, omnimessage_sandbox):
    omnimessage_sandbox.add_fault("server_error", call="send", times="always")
    run = dags[DAG_ID].test()
    assert run.state == "success"
    omnimessage_sandbox.assert_nothing_scheduled()
