# polyveil_module(NAME DEPS ...): one static library pv_NAME from all *.cc of the current folder, and one
# test program NAME_test from its *_test.cc. Dependencies are the libraries' own; scripts/check_includes.py
# checks that they point one way.
# What waits for disks, networks and people compiles in two thirds of the time and runs as fast; under
# sanitizers, where the optimiser takes minutes for a server's templates, in a third.
function(polyveil_light target)
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1> $<$<CONFIG:Sanitized,Dev>:-O0>)
endfunction()

# Tests' own code runs once; the optimiser would take half of the time that they compile.
function(polyveil_test_code target)
  target_compile_options(${target} PRIVATE -O0)
endfunction()

# A test program of one module: `ninja unit_tests` builds them all, `ctest -L unit` runs them. One that takes
# minutes is several tests, NAME/1, NAME/2, ..., which start before the others.
if(POLYVEIL_TESTS)
  add_custom_target(unit_tests)
endif()
function(polyveil_unit_test name)
  cmake_parse_arguments(ARG "" "SHARDS" "" ${ARGN})
  polyveil_test_code(${name}_test)
  add_dependencies(unit_tests ${name}_test)
  if(NOT ARG_SHARDS)
    add_test(NAME ${name} COMMAND ${name}_test)
    set_tests_properties(${name} PROPERTIES LABELS unit)
    return()
  endif()
  foreach(shard RANGE 1 ${ARG_SHARDS})
    add_test(NAME ${name}/${shard} COMMAND ${name}_test)
    math(EXPR index "${shard} - 1")
    set_tests_properties(${name}/${shard} PROPERTIES LABELS unit COST 1000
      ENVIRONMENT "GTEST_TOTAL_SHARDS=${ARG_SHARDS};GTEST_SHARD_INDEX=${index}")
  endforeach()
endfunction()

# libFuzzer counts what inputs reach in all other modules: these read no bytes from outside, or are not in its
# programs.
set(not_fuzzed ring backend circuits serve_server serve_client serve_proxy api)

function(polyveil_module name)
  cmake_parse_arguments(ARG "" "SHARDS" "DEPS;TEST_DEPS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$")
  if(sources)
    add_library(pv_${name} STATIC ${sources})
    target_link_libraries(pv_${name} PUBLIC ${ARG_DEPS})
    set_property(GLOBAL APPEND PROPERTY POLYVEIL_MODULES pv_${name})
  else()
    add_library(pv_${name} INTERFACE)
    target_link_libraries(pv_${name} INTERFACE ${ARG_DEPS})
  endif()
  if(POLYVEIL_LIBFUZZER AND sources AND NOT name IN_LIST not_fuzzed)
    target_compile_options(pv_${name} PRIVATE -fsanitize=fuzzer-no-link)
  endif()
  if(POLYVEIL_TESTS AND tests)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE pv_${name} ${ARG_TEST_DEPS} GTest::gtest GTest::gtest_main)
    polyveil_unit_test(${name} SHARDS ${ARG_SHARDS})
  endif()
endfunction()
