# SPDX-License-Identifier: Apache-2.0
# Installs the build tree to a prefix, moves the prefix (nothing in it may hold a path), and builds and runs a C99
# program of another project in both ways. A failed command ends the script.
cmake_minimum_required(VERSION 3.25)
set(STRICT COMMAND_ERROR_IS_FATAL ANY)

file(REMOVE_RECURSE ${WORK})
file(MAKE_DIRECTORY ${WORK})
execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${WORK}/first ${STRICT} OUTPUT_QUIET)
file(RENAME ${WORK}/first ${WORK}/prefix)

message(STATUS "find_package(tutti)")
execute_process(
  COMMAND ${CMAKE_COMMAND} -G ${GENERATOR} -S ${CONSUMER} -B ${WORK}/cmake -D CMAKE_PREFIX_PATH=${WORK}/prefix
          -D CMAKE_C_COMPILER=${C_COMPILER} -D "CMAKE_C_FLAGS=${C_FLAGS}" ${STRICT})
execute_process(COMMAND ${CMAKE_COMMAND} --build ${WORK}/cmake ${STRICT})
execute_process(COMMAND ${WORK}/cmake/consumer ${STRICT})
execute_process(COMMAND ${WORK}/cmake/nccl_consumer ${STRICT})

message(STATUS "pkg-config")
if(NOT PKG_CONFIG)
  message(FATAL_ERROR "pkg-config not found; tools/install-deps installs it")
endif()
file(GLOB_RECURSE pc ${WORK}/prefix/*/tutti.pc)
get_filename_component(pc_dir ${pc} DIRECTORY)
foreach(package tutti tutti-nccl)
  set(program consumer)
  if(package STREQUAL "tutti-nccl")
    set(program nccl_consumer)
  endif()
  set(config ${CMAKE_COMMAND} -E env PKG_CONFIG_PATH=${pc_dir} ${PKG_CONFIG})
  execute_process(COMMAND ${config} --cflags --libs ${package}
                  OUTPUT_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE ${STRICT})
  execute_process(COMMAND ${config} --variable=libdir ${package}
                  OUTPUT_VARIABLE libdir OUTPUT_STRIP_TRAILING_WHITESPACE ${STRICT})
  separate_arguments(flags UNIX_COMMAND "${flags}")
  separate_arguments(c_flags UNIX_COMMAND "${C_FLAGS}")
  execute_process(COMMAND ${C_COMPILER} -std=c99 ${c_flags} ${CONSUMER}/${program}.c ${flags} -Wl,-rpath,${libdir}
                          -o ${WORK}/${program} ${STRICT})
  execute_process(COMMAND ${WORK}/${program} ${STRICT})
endforeach()
