# SPDX-License-Identifier: Apache-2.0
# What may or may not be on the build machine. AUTO takes it when it is there, ON demands it, OFF ignores it.
# Sets TUTTI_HAVE_CUDA, TUTTI_NVCC, TUTTI_HAVE_VERBS, TUTTI_HAVE_HWLOC and the words for the summary.

set(TUTTI_CUDA AUTO CACHE STRING "CUDA: AUTO, ON or OFF")
set(TUTTI_VERBS AUTO CACHE STRING "InfiniBand verbs: AUTO, ON or OFF")
set(TUTTI_HWLOC AUTO CACHE STRING "hwloc: AUTO, ON or OFF")
foreach(feature CUDA VERBS HWLOC)
  set_property(CACHE TUTTI_${feature} PROPERTY STRINGS AUTO ON OFF)
  set(TUTTI_HAVE_${feature} FALSE)
  set(TUTTI_${feature}_SUMMARY "no (TUTTI_${feature}=OFF)")
endforeach()

set(TUTTI_CUDA_ARCHITECTURES 90 CACHE STRING "GPUs to build kernels for: 80;90;100, and 100-ptx for newer ones")

# CUDA: nvcc 12 or newer, the first with C++20. On PATH, or where NVIDIA's installers put it.
if(NOT TUTTI_CUDA STREQUAL "OFF")
  find_program(TUTTI_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin $ENV{CUDA_PATH}/bin PATHS /usr/local/cuda/bin)
  set(TUTTI_CUDA_SUMMARY "no (no nvcc found)")
  if(TUTTI_NVCC)
    execute_process(COMMAND ${TUTTI_NVCC} --version OUTPUT_VARIABLE text RESULT_VARIABLE failed ERROR_QUIET)
    string(REGEX MATCH "release ([0-9]+\\.[0-9]+)" found "${text}")
    set(TUTTI_CUDA_VERSION ${CMAKE_MATCH_1})
    if(failed OR NOT found)
      set(TUTTI_CUDA_SUMMARY "no (${TUTTI_NVCC} does not run)")
    elseif(TUTTI_CUDA_VERSION VERSION_LESS 12)
      set(TUTTI_CUDA_SUMMARY "no (${TUTTI_NVCC} is ${TUTTI_CUDA_VERSION}; C++20 needs 12)")
    else()
      set(TUTTI_HAVE_CUDA TRUE)
      set(TUTTI_CUDA_SUMMARY "${TUTTI_CUDA_VERSION} (${TUTTI_NVCC}), kernels for ${TUTTI_CUDA_ARCHITECTURES}")
    endif()
  endif()
endif()

# Verbs and hwloc: only the headers, at build time; the libraries are loaded at run time.
if(NOT TUTTI_VERBS STREQUAL "OFF")
  find_path(TUTTI_VERBS_INCLUDE infiniband/verbs.h)
  if(TUTTI_VERBS_INCLUDE)
    set(TUTTI_HAVE_VERBS TRUE)
    set(TUTTI_VERBS_SUMMARY "headers in ${TUTTI_VERBS_INCLUDE}")
  else()
    set(TUTTI_VERBS_SUMMARY "no (no infiniband/verbs.h found)")
  endif()
endif()

if(NOT TUTTI_HWLOC STREQUAL "OFF")
  find_path(TUTTI_HWLOC_INCLUDE hwloc.h)
  set(TUTTI_HWLOC_SUMMARY "no (no hwloc.h found)")
  if(TUTTI_HWLOC_INCLUDE)
    set(TUTTI_HAVE_HWLOC TRUE)
    set(TUTTI_HWLOC_SUMMARY "headers in ${TUTTI_HWLOC_INCLUDE}")
  endif()
endif()

foreach(feature CUDA VERBS HWLOC)
  if(TUTTI_${feature} STREQUAL "ON" AND NOT TUTTI_HAVE_${feature})
    message(FATAL_ERROR "TUTTI_${feature}=ON, but: ${TUTTI_${feature}_SUMMARY}. Install it, or set TUTTI_${feature}=AUTO.")
  endif()
endforeach()
