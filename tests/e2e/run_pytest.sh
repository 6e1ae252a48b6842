#!/usr/bin/env bash
# Runs pytest of the private Python environment on the given tests; fails, and says why, where there is none.
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${INFERD_TEST_PYTHON:-$root/.venv/bin/python}
if ! "$python" -c 'import pytest, openai, httpx, numpy, langchain_openai, requests, jsonschema, rfc3339_validator' 2>/dev/null; then
  echo "run_pytest.sh: $python lacks the end-to-end tests' packages: run scripts/setup --tests" >&2
  exit 1
fi
exec "$python" -m pytest -c "$root/tests/e2e/pytest.ini" "$@"
