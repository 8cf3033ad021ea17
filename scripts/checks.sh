#!/usr/bin/env bash
# What CI runs behind ./test.sh, whose build folder it uses: scripts/checks.sh [STEP...], by default those of CI.
# By hand as well: tidy. CONTRIBUTING.md names them. Each says what it took.
set -euo pipefail
cd "$(dirname "$0")/.."
steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(format reference package python backends sanitizers threads fuzz)
build=${POLYVEIL_BUILD:-build-test}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LSAN_OPTIONS=suppressions=$PWD/tests/leaks.supp:print_suppressions=0

sources() { git ls-files '*.cc' '*.h' | grep -v '^tests/vectors/'; }

# Whether the step's tools are there; the packages were tried above.
needs() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null || { echo "$tool is not there and could not be installed" >&2; return 1; }
  done
}

step_format() {
  needs clang-format
  sources | xargs clang-format --dry-run -Werror
}

step_reference() {
  needs doxygen
  local undocumented
  doxygen docs/Doxyfile 2>"$work/reference" || true
  undocumented=$(wc -l <"$work/reference")
  echo "reference: $(grep -c '<member ' build-reference/polyveil.tag) public names have words, $undocumented do not"
  cat "$work/reference"
  [ "$undocumented" -eq 0 ]
}

# The examples on the installed package, in every way that a project may take.
step_package() {
  cmake --install "$build" --prefix "$work/prefix" --component dev >/dev/null
  cmake -G Ninja -S examples -B "$work/examples" -DCMAKE_PREFIX_PATH="$work/prefix" >/dev/null
  ninja -C "$work/examples"
  local kind
  for kind in "" _static; do
    for example in refresh private_dot_product polynomial_model; do
      "$work/examples/$example$kind" test11 >"$work/out" || { cat "$work/out"; return 1; }
    done
    "$build/tests/e2e/make_random_model" "$work/model"
    XDG_CACHE_HOME="$work/cache" "$work/examples/client$kind" "$work/model" on test10
  done
  g++ -std=c++20 examples/refresh.cc -o "$work/refresh" \
    $(PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name polyveil.pc)") pkg-config --cflags --libs polyveil)
  LD_LIBRARY_PATH=$(dirname "$(find "$work/prefix" -name libpolyveil.so)") "$work/refresh" test10 >/dev/null
  # Nothing but the interface shows.
  local shown
  shown=$(nm -DC --defined-only "$(find "$work/prefix" -name libpolyveil.so)" | grep ' [TV] ' |
          grep -Ecv ' (typeinfo|vtable|std::|polyveil::(Context|Ciphertext|Polynomial|LinearTransform|EvaluationKeys|SecretKey|Evaluator|ErrorException|Text|TextClient|Server|Model)::)' || true)
  [ "$shown" -eq 0 ] || { echo "libpolyveil.so shows $shown other names"; return 1; }
  inside added "add_subdirectory($PWD polyveil)"
  inside fetched 'include(FetchContent)' "FetchContent_Declare(polyveil SOURCE_DIR $PWD)" \
    'FetchContent_MakeAvailable(polyveil)'
}

# A project that takes the sources in: it is configured, and its build is as ours.
inside() {  # NAME LINES...
  local folder=$work/$1
  mkdir "$folder"
  printf '%s\n' 'cmake_minimum_required(VERSION 3.22)' 'project(inside LANGUAGES CXX)' "${@:2}" \
    "add_executable(inside $PWD/examples/refresh.cc)" \
    'target_link_libraries(inside PRIVATE polyveil::polyveil)' >"$folder/CMakeLists.txt"
  cmake -G Ninja -S "$folder" -B "$folder/build" >/dev/null
  ninja -C "$folder/build" -n inside >/dev/null
}

step_python() {
  [ -d "$work/prefix" ] || cmake --install "$build" --prefix "$work/prefix" --component dev >/dev/null
  python3 -m venv "$work/venv"
  CMAKE_PREFIX_PATH="$work/prefix" "$work/venv/bin/pip" install -q './bindings/python[plots]' pytest
  "$build/tests/e2e/make_random_model" "$work/python-model"
  POLYVEIL_TEST_MODEL="$work/python-model" "$work/venv/bin/python" -m pytest -q bindings/python/tests
  XDG_CACHE_HOME="$work/python-cache" "$work/venv/bin/python" examples/tour.py "$work/python-model" test10 |
    tee "$work/tour"
  # The command line's text is the same.
  "$build/tools/polyveil" generate --model "$work/python-model" --parameters test10 --insecure-test \
    --prompt on --tokens 3 >"$work/cli" 2>/dev/null
  python3 -c 'import sys; assert repr(sys.argv[1].removeprefix("on")) in sys.argv[2], sys.argv' \
    "$(cat "$work/cli")" "$(cat "$work/tour")"
  "$work/venv/bin/python" examples/precision_and_latency.py test11 "$work/figure.png"
  "$work/venv/bin/python" bench/binding_overhead.py --parameters test11 --most 1000 >/dev/null  # that it runs
}

# The same bits from the scalar and the AVX2 kernels, end to end too (api: a bootstrap, a text).
step_backends() {
  for backend in ref avx2; do
    POLYVEIL_BACKEND=$backend ctest --test-dir "$build" --output-on-failure -R '^(ring|backend|ckks|api)$'
  done
}

# Under sanitizers: all but the one test at full size (N = 2^16), whose code the small rings run.
unit_tests() {  # BUILD SELECTION...
  GTEST_FILTER='-SecureLayer.*' ctest --test-dir "$1" -j "$(nproc)" --timeout 3000 --output-on-failure "${@:2}"
}

# Unit tests by clang without a warning, under ASan and UBSan; the parsers on mutated and kept files.
step_sanitizers() {
  needs clang++ llvm-symbolizer
  cmake --preset sanitizers >/dev/null
  ninja -C build-asan unit_tests
  unit_tests build-asan -L unit
}

# What several threads share.
step_threads() {
  local tests=(base runtime runtime_client serve_server serve_client serve_proxy api)
  needs clang++ llvm-symbolizer
  cmake --preset threads >/dev/null
  ninja -C build-tsan "${tests[@]/%/_test}"
  (IFS='|'; unit_tests build-tsan -R "^(${tests[*]})(/|$)")
}

# .clang-tidy says what and why; clang's warnings are among it, programs included. On the joined sources of the
# sanitizers' build, an eighth of the time.
step_tidy() {
  needs clang++ run-clang-tidy
  cmake --preset sanitizers >/dev/null
  ninja -C build-asan polyveil_version
  run-clang-tidy -p build-asan -quiet >"$work/tidy" 2>"$work/tidy-errors" || {
    grep -A3 -E '(warning|error):' "$work/tidy" || cat "$work/tidy-errors"
    return 1
  }
}

# The parsers under libFuzzer, both programs side by side, POLYVEIL_FUZZ_SECONDS each. What they find is added to
# the kept inputs (which every test run parses too) by: POLYVEIL_FUZZ_KEEP=1 scripts/checks.sh fuzz.
step_fuzz() {
  local kind running=()
  needs clang++
  cmake --preset sanitizers >/dev/null
  ninja -C build-asan fuzz_formats fuzz_released_formats
  for kind in formats released; do
    fuzz "$kind" & running+=($!)
  done
  for kind in "${running[@]}"; do wait "$kind"; done
}

fuzz() {  # KIND
  local kept=tests/fuzz/corpus/$1 program=build-asan/tests/fuzz/fuzz_$1
  [ "$1" = formats ] || program=build-asan/tests/fuzz/fuzz_$1_formats
  mkdir -p "$work/fuzz-$1/found" "$work/fuzz-$1/seeds"
  POLYVEIL_FUZZ_SEEDS="$work/fuzz-$1/seeds" "$program" "$work/fuzz-$1/found" "$work/fuzz-$1/seeds" "$kept" \
    -max_total_time="${POLYVEIL_FUZZ_SECONDS:-150}" -max_len=65536 -timeout=20 -rss_limit_mb=4096 \
    -artifact_prefix="build-asan/$1-" >"$work/fuzz-$1/log" 2>&1 || { tail -60 "$work/fuzz-$1/log"; return 1; }
  echo "fuzz $1: $(grep -E 'DONE|INITED' "$work/fuzz-$1/log" | tr '\n' ' ')"
  [ -z "${POLYVEIL_FUZZ_KEEP:-}" ] || "$program" -set_cover_merge=1 -max_len=8192 "$kept" "$work/fuzz-$1/found" 2>/dev/null
}

scripts/install_packages.sh build test checks || echo "checks: not every package could be installed" >&2
for step in "${steps[@]}"; do
  began=$(date +%s)
  "step_$step"
  echo "check $step: passed in $(($(date +%s) - began)) s"
done
