"""A raw HTTP client for hostile bytes: sends exactly what it is given and splits what comes back into answers."""
import socket
import time


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def __repr__(self):
        return f"Answer({self.status}, {self.headers}, {self.body[:300]!r})"


class Raw:
    """One connection. send() tolerates a server that has already hung up; answers() reads until it closes or falls silent."""

    def __init__(self, port, timeout_s=15):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self.received, self.closed = b"", False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        """Returns False once the peer no longer takes bytes."""
        try:
            self.socket.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            return False

    def send_many(self, pieces):
        """Sends until told to stop, or until the server has answered or closed. Returns the bytes taken."""
        taken = 0
        for piece in pieces:
            if not self.send(piece):
                break
            taken += len(piece)
        return taken

    def answers(self, wait_s=10, silence_s=1.0):
        """Everything that arrives until the peer closes, wait_s pass, or silence follows at least one answer."""
        deadline = time.monotonic() + wait_s
        last = time.monotonic()
        while time.monotonic() < deadline:
            self.socket.settimeout(0.1)
            try:
                data = self.socket.recv(1 << 16)
            except TimeoutError:
                if self.received and time.monotonic() - last > silence_s:
                    break
                continue
            except ConnectionResetError:
                self.closed = True
                break
            if not data:
                self.closed = True
                break
            self.received += data
            last = time.monotonic()
        return split(self.received)


def split(data):
    """Parses a run of HTTP/1.1 answers strictly."""
    out = []
    while data:
        head, separator, data = data.partition(b"\r\n\r\n")
        assert separator, f"unfinished head: {head[:200]!r}"
        lines = head.decode("latin-1").split("\r\n")
        version, status = lines[0].split(" ")[:2]
        assert version in ("HTTP/1.1", "HTTP/1.0"), lines[0]
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        if int(status) == 100:
            continue
        if headers.get("transfer-encoding") == "chunked":
            body, data = dechunk(data)
        else:
            length = int(headers.get("content-length", len(data)))
            body, data = data[:length], data[length:]
        out.append(Answer(int(status), headers, body))
    return out


def dechunk(data):
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        count = int(size, 16)
        body, data = body + data[:count], data[count + 2 :]
        if count == 0:
            break
    return body, data


def request(method="GET", target="/health", headers=(), body=b"", host="localhost"):
    """The bytes of one request; headers are given as lines without their line ends, exactly as they shall go out."""
    lines = [f"{method} {target} HTTP/1.1"] + ([f"Host: {host}"] if host else []) + list(headers)
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def ask(port, data, wait_s=10, silence_s=0.5):
    """Sends `data` on a new connection; (answers, whether the server closed)."""
    with Raw(port) as raw:
        raw.send(data)
        answers = raw.answers(wait_s, silence_s)
        return answers, raw.closed
