"""Hostile bytes on a raw socket: what published attacks on HTTP servers look like, and that each is refused and bounded."""
import gzip
import json
import socket
import time

import httpx
import pytest
from conftest import SIM
from daemon import Daemon
from raw import Raw, ask, request

MIB = 1 << 20
POST = "/v1/completions"
JSON = "Content-Type: application/json"
BODY = json.dumps({"prompt": "x", "max_tokens": 1}).encode()
BODY_LIMIT = 4 * MIB
DEFAULT_BODY_LIMIT = 16 * MIB
GROWTH = 32 * MIB  # of memory that a refused attack of 64 MiB may leave: a few copies of the largest body


@pytest.fixture(scope="module")
def server():
    limits = ("--max-body-bytes", str(BODY_LIMIT), "--header-timeout-s", "2", "--body-timeout-s", "3", "--keep-alive-s", "2")
    with Daemon("--model", SIM, *limits) as daemon:
        ask(daemon.port, request("POST", POST, [JSON, f"Content-Length: {len(BODY)}"], BODY))
        yield daemon


@pytest.fixture(autouse=True)
def survives(server):
    """After every test the server answers, and has not kept what it was sent."""
    before = server.rss_bytes()
    yield
    assert httpx.post(server.url + POST, json={"prompt": "x", "max_tokens": 1}, timeout=20).status_code == 200
    grown = server.rss_bytes() - before
    assert grown < GROWTH, f"kept {grown / MIB:.0f} MiB"


def refused(answers, closed, *statuses):
    """The last word is one refusal (or nothing at all), and the connection is closed."""
    assert closed, f"still open after {answers}"
    assert len(answers) <= 1, answers
    if answers:
        assert answers[0].status in statuses, answers
    return answers


def post(headers, body=BODY):
    return request("POST", POST, [JSON, *headers], body)


# --- bodies ------------------------------------------------------------------------------------------------------


def test_a_plain_request_works(server):
    answers, _ = ask(server.port, post([f"Content-Length: {len(BODY)}"]))
    assert [a.status for a in answers] == [200]


def test_a_chunked_body_works(server):
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    answers, _ = ask(server.port, post(["Transfer-Encoding: chunked"], body))
    assert [a.status for a in answers] == [200]


def test_a_chunked_body_beyond_the_limit_is_cut_off(server):
    with Raw(server.port) as raw:
        raw.send(post(["Transfer-Encoding: chunked"], b""))
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        taken = raw.send_many(chunk for _ in range(1024))
        refused(raw.answers(), raw.closed, 413)
    assert taken < 64 * MIB, "took all 64 MiB"


def spaces_in_chunks(count_bytes):
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    return (chunk for _ in range(count_bytes // 65536))


@pytest.mark.parametrize("size,status", [(DEFAULT_BODY_LIMIT + MIB, 413), (DEFAULT_BODY_LIMIT - MIB, 200)])
def test_a_body_up_to_the_default_limit_takes_at_most_twice_that_and_is_given_back(size, status):
    with Daemon("--model", SIM) as daemon:
        ask(daemon.port, post([f"Content-Length: {len(BODY)}"]))
        before = daemon.rss_bytes()
        daemon.forget_peak()
        with Raw(daemon.port, timeout_s=30) as raw:
            raw.send(post(["Transfer-Encoding: chunked"], b""))
            raw.send_many(spaces_in_chunks(size))
            raw.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY))
            answers = raw.answers(20)
            assert [a.status for a in answers] == [status], answers
            grown, kept = daemon.peak_rss_bytes() - before, daemon.rss_bytes() - before
        assert DEFAULT_BODY_LIMIT / 2 < grown <= 2 * DEFAULT_BODY_LIMIT, f"took {grown / MIB:.1f} MiB"
        assert kept <= DEFAULT_BODY_LIMIT / 4, f"kept {kept / MIB:.1f} MiB while the connection is idle or closed"


def test_a_declared_length_beyond_the_limit_is_refused_before_the_body(server):
    for length in (BODY_LIMIT + 1, 10**18):
        answers, closed = ask(server.port, post([f"Content-Length: {length}"], b""))
        assert [a.status for a in answers] == [413] and closed, (length, answers)
        assert json.loads(answers[0].body)["error"]["code"] == "request_too_large"


def test_a_gzip_bomb_is_not_unpacked(server):
    bomb = gzip.compress(b" " * (128 * MIB), 9)
    answers, _ = ask(server.port, post(["Content-Encoding: gzip", f"Content-Length: {len(bomb)}"], bomb), wait_s=20)
    assert len(answers) == 1 and answers[0].status in (400, 413, 415), answers


@pytest.mark.parametrize("size", ["-2", "-1", "10000000000000000", "ffffffffffffffff", "5abcz", "0x10", "", " ", "+5", "1 0"])
def test_a_bad_chunk_size_is_refused(server, size):
    with Raw(server.port) as raw:
        raw.send(post(["Transfer-Encoding: chunked"], size.encode() + b"\r\n"))
        taken = raw.send_many(b" " * 65536 for _ in range(1024))
        refused(raw.answers(), raw.closed, 400, 413)
    assert taken < 64 * MIB


def test_many_one_byte_chunks_are_bounded_or_answered(server):
    with Raw(server.port, timeout_s=60) as raw:
        raw.send(post(["Transfer-Encoding: chunked"], b""))
        raw.send_many(b"1\r\n \r\n" * 1000 for _ in range(1000))
        raw.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY))
        answers = raw.answers(30)
    assert len(answers) <= 1 and all(a.status in (200, 400, 413) for a in answers), answers


def test_long_chunk_extensions_and_trailers_are_bounded(server):
    for tail in (b"5;" + b"a" * (2 * MIB) + b"\r\n", b"0\r\n" + b"X-T: y\r\n" * 200_000 + b"\r\n"):
        with Raw(server.port) as raw:
            raw.send(post(["Transfer-Encoding: chunked"], b""))
            raw.send_many(tail[i : i + 65536] for i in range(0, len(tail), 65536))
            answers = raw.answers(8)
            assert len(answers) <= 1 and all(a.status in (400, 413, 431) for a in answers), answers


# --- heads -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [b"", b"GET /", b"GET /health HTTP/1.1\r\nX-Long: ", b"GET /health HTTP/1.1\r\n"])
def test_a_line_that_never_ends_is_cut_off(server, start):
    with Raw(server.port) as raw:
        raw.send(start)
        taken = raw.send_many(b"a" * 65536 for _ in range(1024))
        refused(raw.answers(), raw.closed, 400, 414, 431)
    assert taken < 64 * MIB


def test_hundreds_of_thousands_of_headers_are_refused(server):
    with Raw(server.port) as raw:
        raw.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        raw.send_many(b"X-H: v\r\n" * 1000 for _ in range(300))
        raw.send(b"\r\n")
        refused(raw.answers(), raw.closed, 400, 431)


@pytest.mark.parametrize("headers, status", [
    ([f"X-{i}: v" for i in range(101)], 431), (["X-Big: " + "a" * 33 * 1024], 431),
    ([f"X-{i}: " + "a" * 1000 for i in range(40)], 431)])
def test_too_many_or_too_large_headers_are_refused(server, headers, status):
    answers, closed = ask(server.port, request(headers=headers))
    assert [a.status for a in answers] in ([status], [400]) and closed, answers


def test_a_target_beyond_8_kib_is_refused(server):
    answers, closed = ask(server.port, request(target="/health?" + "a" * 8192))
    assert [a.status for a in answers] in ([414], [400], [431]) and closed, answers


@pytest.mark.parametrize("data", [
    b"GET /health\r\n\r\n",                                                     # HTTP/0.9
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",                                        # HTTP/2 preface
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500 + b"\n\n",  # TLS hello
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nX\x00Y: 1\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
    b"GET /hea\x00lth HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\n folded: yes\r\n\r\n",         # obs-fold
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nno colon here\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\n: nameless\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length : 5\r\n\r\nhello",
    b"GET /health HTTP/1.1 extra\r\nHost: localhost\r\n\r\n",
    b"G\xc3\x8bT /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n",
])
def test_malformed_heads_are_refused(server, data):
    answers, closed = ask(server.port, data, wait_s=6)
    refused(answers, closed, 400, 404, 405, 408, 414, 431, 501, 505)


def test_a_percent_encoded_line_break_in_a_header_stays_encoded(server):
    answers, _ = ask(server.port, request(headers=["X-Request-Id: a%0d%0aX-Evil: 1"]))
    assert len(answers) == 1 and "x-evil" not in answers[0].headers
    assert b"\r\nX-Evil" not in answers[0].body


def test_line_breaks_in_a_target_make_no_header(server):
    answers, _ = ask(server.port, request(target="/v1/models/a%0d%0aX-Evil:%201"))
    assert len(answers) == 1 and answers[0].status in (400, 404) and "x-evil" not in answers[0].headers


def test_a_client_cannot_name_its_own_address(server):
    answers, _ = ask(server.port, request(target="/v1/models", headers=["REMOTE_ADDR: 6.6.6.6", "REMOTE_PORT: 1",
                                                                         "X-Forwarded-For: 7.7.7.7", "LOCAL_ADDR: 8.8.8.8"]))
    assert [a.status for a in answers] == [200]
    log = server.log()
    assert not any(address in log for address in ("6.6.6.6", "7.7.7.7", "8.8.8.8"))


def test_no_exception_text_reaches_the_client(server):
    for data in (post(["Content-Length: 4"], b"\xff{{{"), request(target="/v1/models/%ff%fe"), request("POST", "/tokenize",
                 [JSON, "Content-Length: 2"], b"[]"), request("POST", POST, ["Content-Type: multipart/form-data; boundary=" +
                 "x" * 3900, "Content-Length: 0"])):
        answers, _ = ask(server.port, data)
        assert len(answers) == 1 and 400 <= answers[0].status < 500, answers
        assert not any(name.startswith("exception") for name in answers[0].headers)
        assert b"std::" not in answers[0].body and b"/work" not in answers[0].body and b".cpp" not in answers[0].body


# --- where one request ends and the next begins -------------------------------------------------------------------


@pytest.mark.parametrize("headers, body", [
    (["Content-Length: 5abc"], b"hello"), (["Content-Length: +5"], b"hello"), (["Content-Length: -1"], b""),
    (["Content-Length: 5, 5"], b"hello"), (["Content-Length: 5", "Content-Length: 6"], b"hello!"),
    (["Content-Length: 0x5"], b"hello"), (["Content-Length: "], b""), (["Content-Length: 99999999999999999999"], b""),
    (["Content-Length: 5", "Transfer-Encoding: chunked"], b"0\r\n\r\n"),
    (["Transfer-Encoding: chunked", "Content-Length: 5"], b"0\r\n\r\n"),
    (["Transfer-Encoding: chunked, chunked"], b"0\r\n\r\n"), (["Transfer-Encoding: xchunked"], b"0\r\n\r\n"),
    (["Transfer-Encoding: gzip"], b"hello"), (["Transfer-Encoding: chunked", "Transfer-Encoding: identity"], b"0\r\n\r\n"),
    (["Transfer-Encoding:\x0bchunked"], b"0\r\n\r\n"),
])
def test_an_ambiguous_length_is_refused_and_the_connection_closed(server, headers, body):
    smuggled = request(target="/v1/models")
    answers, closed = ask(server.port, post(headers, body + smuggled), wait_s=8)
    refused(answers, closed, 400, 411, 413, 501)


@pytest.mark.parametrize("pause", [0, 0.2])
@pytest.mark.parametrize("method, target", [("GET", "/health"), ("GET", "/v1/absent"), ("DELETE", "/v1/models"),
                                            ("GET", "/v1/models")])
def test_a_body_nobody_reads_is_never_taken_for_a_request(server, method, target, pause):
    smuggled = request(target="/v1/models?smuggled")
    with Raw(server.port) as raw:
        raw.send(request(method, target, [f"Content-Length: {len(smuggled)}"]))
        time.sleep(pause)
        raw.send(smuggled)
        answers = raw.answers(6)
    assert len(answers) == 1, answers


def test_pipelined_requests_are_answered_in_order_or_closed(server):
    data = b"".join(request(target=f"/v1/models/absent-{i:03d}-") for i in range(100))
    answers, closed = ask(server.port, data, wait_s=15)
    assert 1 <= len(answers) <= 100 and (closed or len(answers) == 100)
    for i, answer in enumerate(answers):
        assert answer.status == 404 and f"absent-{i:03d}-".encode() in answer.body, (i, answer)


def test_expect_100_continue_is_answered(server):
    with Raw(server.port) as raw:
        raw.send(post([f"Content-Length: {len(BODY)}", "Expect: 100-continue"], b""))
        time.sleep(0.3)
        raw.send(BODY)
        assert [a.status for a in raw.answers()] == [200]


def test_a_body_cut_short_is_no_request(server):
    with Raw(server.port) as raw:
        raw.send(post([f"Content-Length: {len(BODY) + 10}"]))
        raw.socket.shutdown(socket.SHUT_WR)
        assert all(a.status in (400, 408) for a in raw.answers(8))


@pytest.mark.parametrize("host, status", [("localhost", 200), ("127.0.0.1:8080", 200), ("evil.example", 403), ("", 400)])
def test_only_known_host_names_are_served_on_loopback(server, host, status):
    answers, _ = ask(server.port, request(target="/v1/models", host=host))
    assert [a.status for a in answers] in ([status], [400 if status != 200 else 200], [421 if status != 200 else 200]), answers


# --- slow and idle clients ----------------------------------------------------------------------------------------


def test_idle_and_slow_connections_hold_nobody_up(server):
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]
    for connection in slow:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Le")
    took = []
    for _ in range(10):
        began = time.monotonic()
        assert httpx.get(server.url + "/health", timeout=5).status_code == 200
        took.append(time.monotonic() - began)
    for connection in idle + slow:
        connection.close()
    assert sorted(took)[5] < 0.5, took


@pytest.mark.parametrize("start, limit_s", [
    (b"GET /health HT", 6), (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-", 6),
    (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{", 12)])
def test_a_request_that_drips_in_is_given_up(server, start, limit_s):
    """One byte each half second would keep a plain read timeout alive for ever."""
    began = time.monotonic()
    with Raw(server.port) as raw:
        raw.send(start)
        while time.monotonic() - began < limit_s + 3:
            time.sleep(0.5)
            if not raw.send(b"a"):
                break
            raw.socket.setblocking(False)
            try:
                data = raw.socket.recv(65536)
                if not data or b"HTTP/1.1 4" in data:
                    break
            except BlockingIOError:
                pass
            except ConnectionResetError:
                break
            raw.socket.setblocking(True)
    assert time.monotonic() - began < limit_s


def test_a_client_that_does_not_read_is_dropped_and_others_are_served():
    with Daemon("--model", SIM, "--write-timeout-s", "1") as daemon:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        raw.connect(("127.0.0.1", daemon.port))
        body = json.dumps({"prompt": "x", "max_tokens": 100_000, "stream": True, "ignore_eos": True, "n": 8}).encode()
        raw.sendall(post([f"Content-Length: {len(body)}"], body))
        time.sleep(0.5)
        assert httpx.post(daemon.url + POST, json={"prompt": "x", "max_tokens": 4}, timeout=20).status_code == 200
        deadline = time.monotonic() + 30
        while daemon.metrics()["vllm:num_requests_running"] > 0 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert daemon.metrics()["vllm:num_requests_running"] == 0
        raw.close()


def test_connections_beyond_the_limit_get_503_and_later_ones_are_served():
    with Daemon("--model", SIM, "--max-connections", "16", "--keep-alive-s", "1") as daemon:
        held = [socket.create_connection(("127.0.0.1", daemon.port), timeout=5) for _ in range(60)]
        time.sleep(0.5)
        statuses = set()
        for connection in held:
            try:
                connection.sendall(request())
                statuses.add(connection.recv(4096)[:12])
            except OSError:
                pass
        assert b"HTTP/1.1 200" in statuses
        for connection in held:
            connection.close()
        daemon.wait_for_status("/health", 200, timeout_s=10)
