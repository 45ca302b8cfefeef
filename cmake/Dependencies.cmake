# Every third-party package Fathom links. scripts/setup installs them all.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(CURL REQUIRED)
find_package(LibArchive REQUIRED)
find_package(Boost 1.81 REQUIRED)
find_package(OpenSSL 3 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(SODIUM REQUIRED IMPORTED_TARGET libsodium)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(SQLITE3 REQUIRED IMPORTED_TARGET sqlite3)
pkg_check_modules(SECCOMP REQUIRED IMPORTED_TARGET libseccomp)
pkg_check_modules(EDIT REQUIRED IMPORTED_TARGET libedit)
if(FATHOM_TESTS)
  find_package(GTest REQUIRED)
  include(GoogleTest)
endif()
if(FATHOM_BENCH)
  find_package(benchmark REQUIRED)
endif()

# PyTorch's libtorch, for the trainer alone: scripts/setup puts its wheel under .cache/torch. Its own
# CMake package would bring the flags of PyTorch's build; headers and libraries are all that is needed.
option(FATHOM_TRAIN "Build the trainer, if libtorch is there" ON)
if(FATHOM_TRAIN AND NOT FATHOM_SANITIZE)
  file(GLOB torch_folder ${CMAKE_SOURCE_DIR}/.cache/torch/lib/python3*/site-packages/torch)
  find_library(TORCH_LIBRARY torch PATHS ${torch_folder}/lib NO_DEFAULT_PATH)
  # Gloo is inside libtorch, but c10d's header wants a few of Gloo's own (libgloo-dev).
  find_path(GLOO_HEADERS gloo/rendezvous/store.h)
  if(TORCH_LIBRARY AND GLOO_HEADERS)
    add_library(fathom_torch INTERFACE)
    # After the system's own: the wheel brings headers of fmt and others, of other versions.
    target_compile_options(fathom_torch INTERFACE "SHELL:-idirafter ${torch_folder}/include"
                           "SHELL:-idirafter ${torch_folder}/include/torch/csrc/api/include")
    # Devices register themselves when their library is loaded, whether or not a symbol of it is used.
    file(GLOB torch_devices ${torch_folder}/lib/libtorch_cuda.so ${torch_folder}/lib/libc10_cuda.so)
    target_link_libraries(fathom_torch INTERFACE -Wl,--no-as-needed ${TORCH_LIBRARY}
      ${torch_folder}/lib/libtorch_cpu.so ${torch_folder}/lib/libc10.so ${torch_devices} -Wl,--as-needed)
    # NCCL's class is in there too, and its headers in wheels of NVIDIA's own (scripts/setup).
    file(GLOB nvidia_folders ${torch_folder}/../nvidia/*/include)
    find_path(CUDA_HEADERS NAMES nv/target PATHS ${nvidia_folders} NO_DEFAULT_PATH)
    find_path(NCCL_HEADERS nccl.h PATHS ${nvidia_folders} NO_DEFAULT_PATH)
    if(torch_devices AND CUDA_HEADERS AND NCCL_HEADERS)
      target_compile_options(fathom_torch INTERFACE "SHELL:-idirafter ${CUDA_HEADERS}"
                             "SHELL:-idirafter ${NCCL_HEADERS}")
      target_compile_definitions(fathom_torch INTERFACE FATHOM_NCCL)
    endif()
  else()
    message(STATUS "No libtorch under .cache/torch, or no libgloo-dev: the trainer is not built "
                   "(scripts/setup)")
  endif()
endif()
