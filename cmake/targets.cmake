# inferd_library(NAME SOURCES... ): a static library with the project's warnings, include root and sanitizers.
function(inferd_target_settings name)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_options(${name} PRIVATE -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion)
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    target_compile_options(${name} PRIVATE -Wno-restrict)  # GCC bug 105651: false where -O3 inlines string operator+
  endif()
  if(INFERD_WERROR)
    target_compile_options(${name} PRIVATE -Werror)
  endif()
  if(INFERD_SANITIZE)
    target_compile_options(${name} PRIVATE -fsanitize=${INFERD_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
    target_link_options(${name} PRIVATE -fsanitize=${INFERD_SANITIZE})
  endif()
  if(INFERD_FUZZ)
    # The fuzz build is clang's; the warnings that count are those of the product's compiler.
    target_compile_options(${name} PRIVATE -fsanitize=fuzzer-no-link,address,undefined
                           -fno-sanitize-recover=all)
  endif()
endfunction()

function(inferd_library name)
  add_library(${name} STATIC ${ARGN})
  inferd_target_settings(${name})
endfunction()
