#!/usr/bin/env bash
# What CI runs behind ./test.sh, whose build folder it uses: scripts/checks.sh [STEP...]; all steps by default.
# CONTRIBUTING.md names them. Each step says what it took.
set -euo pipefail
cd "$(dirname "$0")/.."
steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(format reference package python backends sanitizers threads clang)
build=${POLYVEIL_BUILD:-build-test}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

sources() { git ls-files '*.cc' '*.h' | grep -v '^tests/vectors/'; }

step_format() { sources | xargs clang-format --dry-run -Werror; }

step_reference() { doxygen docs/Doxyfile; }

# The examples on the installed package, in every way that a project may take.
step_package() {
  cmake --install "$build" --prefix "$work/prefix" --component dev >/dev/null
  cmake -G Ninja -S examples -B "$work/examples" -DCMAKE_PREFIX_PATH="$work/prefix" >/dev/null
  ninja -C "$work/examples"
  for example in refresh private_dot_product; do
    "$work/examples/$example" test11 >"$work/shared.txt" || { cat "$work/shared.txt"; return 1; }
    "$work/examples/${example}_static" test11 >/dev/null
  done
  g++ -std=c++20 examples/refresh.cc -o "$work/refresh" \
    $(PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name polyveil.pc)") pkg-config --cflags --libs polyveil)
  LD_LIBRARY_PATH=$(dirname "$(find "$work/prefix" -name libpolyveil.so)") "$work/refresh" test10 >/dev/null
  # Nothing but the interface shows.
  local shown
  shown=$(nm -DC --defined-only "$(find "$work/prefix" -name libpolyveil.so)" | grep ' [TV] ' |
          grep -Ecv ' (typeinfo|vtable|std::|polyveil::(Context|Ciphertext|Polynomial|LinearTransform|EvaluationKeys|SecretKey|Evaluator|ErrorException)::)' || true)
  [ "$shown" -eq 0 ] || { echo "libpolyveil.so shows $shown other names"; return 1; }
  mkdir "$work/inside"
  printf '%s\n' 'cmake_minimum_required(VERSION 3.22)' 'project(inside LANGUAGES CXX)' \
    "add_subdirectory($PWD polyveil)" "add_executable(inside $PWD/examples/refresh.cc)" \
    'target_link_libraries(inside PRIVATE polyveil::polyveil)' >"$work/inside/CMakeLists.txt"
  cmake -G Ninja -S "$work/inside" -B "$work/inside/build" >/dev/null
}

step_python() {
  [ -d "$work/prefix" ] || cmake --install "$build" --prefix "$work/prefix" --component dev >/dev/null
  python3 -m venv "$work/venv"
  CMAKE_PREFIX_PATH="$work/prefix" "$work/venv/bin/pip" install -q ./bindings/python pytest
  "$work/venv/bin/python" -m pytest -q bindings/python/tests
}

# The same bits from the scalar and the AVX2 kernels, end to end too.
step_backends() {
  for backend in ref avx2; do
    POLYVEIL_BACKEND=$backend ctest --test-dir "$build" --output-on-failure -R '^(ring|backend|ckks|api|runtime)$'
  done
}

sanitized() {  # FOLDER FLAGS TARGETS...
  local folder=$1 flags=$2
  shift 2
  cmake -G Ninja -S . -B "$folder" -DPOLYVEIL_TESTS=ON -DCMAKE_UNITY_BUILD=ON -DCMAKE_BUILD_TYPE=Sanitized \
    -DCMAKE_CXX_FLAGS="-O1 -g1 -fno-omit-frame-pointer $flags" >/dev/null
  ninja -C "$folder" "$@"
}

step_sanitizers() {
  local tests=(base_test ring_test backend_test ckks_test circuits_test approx_test model_test 
               wire_client_test api_test runtime_test serve_server_test serve_client_test)
  sanitized build-asan "-fsanitize=address,undefined -fno-sanitize-recover=undefined" "${tests[@]}"
  local names=("${tests[@]%_test}")
  (IFS='|'; ctest --test-dir build-asan --output-on-failure -R "^(${names[*]})$")
}

step_threads() {
  sanitized build-tsan "-fsanitize=thread" base_test runtime_test serve_server_test api_test
  ctest --test-dir build-tsan --output-on-failure -R '^(base|runtime|serve_server|api)$'
}

step_clang() {
  cmake -G Ninja -S . -B build-clang -DCMAKE_CXX_COMPILER=clang++ -DPOLYVEIL_TESTS=OFF -DPOLYVEIL_PROGRAMS=ON \
    -DCMAKE_UNITY_BUILD=ON -DCMAKE_CXX_FLAGS=-Werror >/dev/null
  ninja -C build-clang
}

scripts/install_packages.sh build test checks
for step in "${steps[@]}"; do
  began=$(date +%s)
  "step_$step"
  echo "check $step: passed in $(($(date +%s) - began)) s"
done
