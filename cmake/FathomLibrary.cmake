# One CMake library a folder of src/, one test program a folder of tests/.
# Sources are globbed with CONFIGURE_DEPENDS: adding a file needs no edit here.

set(FATHOM_WARNINGS -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion
                    -Wnon-virtual-dtor -Woverloaded-virtual -Werror)

add_library(fathom_options INTERFACE)
target_compile_options(fathom_options INTERFACE ${FATHOM_WARNINGS} -fno-omit-frame-pointer)
target_include_directories(fathom_options INTERFACE ${CMAKE_SOURCE_DIR}/src)
if(FATHOM_SANITIZE)
  target_compile_options(fathom_options INTERFACE -fsanitize=${FATHOM_SANITIZE}
                         -fno-sanitize-recover=all)
  target_link_options(fathom_options INTERFACE -fsanitize=${FATHOM_SANITIZE})
endif()

# For what waits for others more than it works: sanitized, such a file takes three times as long to
# optimise as to compile. Not for what is shipped: the linker takes one copy of a template, maybe this one.
function(fathom_build_quickly target)
  if(FATHOM_SANITIZE)
    target_compile_options(${target} PRIVATE -O0)
  endif()
endfunction()

# Reads the headers that most files of a target begin with once instead of in every file: under sanitizers,
# a third to a half of the time to compile one. Other builds do without, so that each file is seen to
# include what it uses (and g++ warns of its own library's code when that comes precompiled).
function(fathom_precompile target)
  if(FATHOM_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    target_precompile_headers(${target} PRIVATE ${ARGN})
    target_compile_options(${target} PRIVATE "SHELL:-Xclang -fno-pch-timestamp")  # for ccache
  endif()
endfunction()

# fathom_library(base DEPENDS ... ): builds src/base/*.cpp as fathom_base.
function(fathom_library name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;PRIVATE_DEPENDS;SUBDIRS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  foreach(subdir ${ARG_SUBDIRS})
    file(GLOB more CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${subdir}/*.cpp)
    list(APPEND sources ${more})
  endforeach()
  if(sources)
    add_library(fathom_${name} STATIC ${sources})
    target_link_libraries(fathom_${name} PUBLIC fathom_options ${ARG_DEPENDS}
                          PRIVATE ${ARG_PRIVATE_DEPENDS})
    if(FATHOM_FUZZ)
      # Coverage for the fuzzer in what it tests; its main is in the targets alone.
      target_compile_options(fathom_${name} PRIVATE -fsanitize=fuzzer-no-link)
    endif()
  else()
    add_library(fathom_${name} INTERFACE)
    target_link_libraries(fathom_${name} INTERFACE fathom_options ${ARG_DEPENDS})
  endif()
endfunction()

# fathom_test(base DEPENDS fathom_base): builds tests/base/*_test.cpp as test_base. BUSY: its own
# code works long enough to be worth optimising. FOLDER: where its files are, if that is not its name.
function(fathom_test name)
  cmake_parse_arguments(ARG "BUSY" "FOLDER" "DEPENDS" ${ARGN})
  if(NOT ARG_FOLDER)
    set(ARG_FOLDER ${name})
  endif()
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${ARG_FOLDER}/*.cpp)
  if(NOT sources)
    return()
  endif()
  add_executable(test_${name} ${sources})
  target_link_libraries(test_${name} PRIVATE fathom_options ${ARG_DEPENDS}
                        GTest::gtest GTest::gmock GTest::gtest_main)
  target_include_directories(test_${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_compile_definitions(test_${name} PRIVATE
    FATHOM_SOURCE_DIR="${CMAKE_SOURCE_DIR}" FATHOM_BINARY_DIR="${CMAKE_BINARY_DIR}")
  fathom_precompile(test_${name} <gmock/gmock.h> <gtest/gtest.h> <nlohmann/json.hpp>)
  if(NOT ARG_BUSY)
    fathom_build_quickly(test_${name})
  endif()
  if(NOT FATHOM_SANITIZE)
    target_compile_options(test_${name} PRIVATE -O1)
  endif()
  # libtorch's threads spin for each other, and tests run side by side.
  gtest_discover_tests(test_${name} DISCOVERY_MODE PRE_TEST PROPERTIES LABELS ${name} TIMEOUT 600
                       ENVIRONMENT OMP_NUM_THREADS=1)
endfunction()
