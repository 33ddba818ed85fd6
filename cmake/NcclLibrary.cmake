# SPDX-License-Identifier: Apache-2.0
# libnccl.so.2: the same objects as libtutti.so and the shim of src/nccl, so that preloading or copying one file is
# enough. It exports NCCL's functions, their twins and the functions of tutti.h (a program gets its streams from there);
# it calls its own even where another library of these names came first, so that it and the real NCCL, or it and
# libtutti.so, live in one process without seeing each other.
add_library(tutti_nccl SHARED $<TARGET_OBJECTS:tutti_objects> $<TARGET_OBJECTS:tutti_nccl_objects>)
add_library(tutti::nccl ALIAS tutti_nccl)
set_target_properties(tutti_nccl PROPERTIES OUTPUT_NAME nccl EXPORT_NAME nccl SOVERSION 2 LINKER_LANGUAGE CXX
                                            INSTALL_RPATH "" LINK_DEPENDS ${CMAKE_SOURCE_DIR}/cmake/nccl.map)
target_include_directories(tutti_nccl INTERFACE $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include/nccl_compat>
                                                $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/nccl_compat>)
target_link_libraries(tutti_nccl PRIVATE $<BUILD_INTERFACE:tutti_dependencies>)
target_link_options(tutti_nccl PRIVATE LINKER:--version-script=${CMAKE_SOURCE_DIR}/cmake/nccl.map LINKER:--exclude-libs,ALL
                                       LINKER:-Bsymbolic-functions LINKER:-z,nodelete)
if(NOT TUTTI_SANITIZED)
  target_link_options(tutti_nccl PRIVATE LINKER:-z,defs -static-libstdc++ -static-libgcc)
endif()
