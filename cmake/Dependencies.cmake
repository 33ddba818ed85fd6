# SPDX-License-Identifier: Apache-2.0
# What the library links besides libc: static archives whose symbols stay hidden.
find_library(SODIUM_STATIC NAMES libsodium.a REQUIRED)
add_library(tutti_dependencies INTERFACE)
target_link_libraries(tutti_dependencies INTERFACE ${SODIUM_STATIC} Threads::Threads ${CMAKE_DL_LIBS})
