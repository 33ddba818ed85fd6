# SPDX-License-Identifier: Apache-2.0
# cmake --install: the header, the library, and how other projects find them: find_package(tutti) and pkg-config.
# Everything installed is relocatable: no file holds an absolute path.
include(CMakePackageConfigHelpers)
set(TUTTI_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/tutti)

install(FILES include/tutti/tutti.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/tutti)
install(TARGETS tutti EXPORT tuttiTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT tuttiTargets NAMESPACE tutti:: FILE tuttiConfig.cmake DESTINATION ${TUTTI_CMAKE_DIR})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/tuttiConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/tuttiConfigVersion.cmake DESTINATION ${TUTTI_CMAKE_DIR})

file(RELATIVE_PATH TUTTI_PC_PREFIX /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(cmake/tutti.pc.in ${CMAKE_BINARY_DIR}/tutti.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/tutti.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# The drop-in for NCCL: its header in a folder of its own, so that -I of it alone chooses ours; find_package(tutti) also
# brings tutti::nccl, and pkg-config tutti-nccl.
install(FILES include/nccl_compat/nccl.h include/nccl_compat/nccl_device.h
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/nccl_compat)
install(TARGETS tutti_nccl EXPORT tuttiTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
configure_file(cmake/tutti-nccl.pc.in ${CMAKE_BINARY_DIR}/tutti-nccl.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/tutti-nccl.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# Also usable by add_subdirectory() under the same name.
add_library(tutti::tutti ALIAS tutti)
