# Debian packages: `cmake --build build --target package` makes polyveil-server_*.deb, polyveil_*.deb,
# polyveil-dev_*.deb and, with POLYVEIL_TRAIN, polyveil-train_*.deb of a build without tests.
find_package(Python3 COMPONENTS Interpreter QUIET)

# A program with its man pages and its shell completion, both of which it tells itself.
function(install_program program component)
  install(TARGETS ${program} RUNTIME DESTINATION bin COMPONENT ${component})
  set(file $<TARGET_FILE:${program}>)
  set(man ${PROJECT_BINARY_DIR}/man/${program})
  set(completion ${PROJECT_BINARY_DIR}/completion/${program})
  file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/completion)
  install(CODE "if(NOT EXISTS \"${Python3_EXECUTABLE}\")
      message(FATAL_ERROR \"python3, which writes the man pages, was not found when this was configured\")
    endif()
    execute_process(COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/scripts/make_man.py
    ${file} ${man} COMMAND_ERROR_IS_FATAL ANY)
    execute_process(COMMAND ${file} --completion bash OUTPUT_FILE ${completion} COMMAND_ERROR_IS_FATAL ANY)"
    COMPONENT ${component})
  install(DIRECTORY ${man}/ DESTINATION share/man/man1 COMPONENT ${component})
  install(FILES ${completion} DESTINATION share/bash-completion/completions COMPONENT ${component})
endfunction()
install_program(polyveil client)
install_program(polyveil-server server)
set(CPACK_COMPONENTS_ALL client server dev)
if(TARGET polyveil-train)
  install_program(polyveil-train train)
  list(APPEND CPACK_COMPONENTS_ALL train)
endif()
install(FILES ${PROJECT_SOURCE_DIR}/packaging/polyveil-server.service DESTINATION /lib/systemd/system
        COMPONENT server)
install(FILES ${PROJECT_SOURCE_DIR}/packaging/server.conf DESTINATION /etc/polyveil
        PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ COMPONENT server)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_PACKAGE_CONTACT "Polyveil maintainers <polyveil@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Language models on encrypted text")
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_CLIENT_PACKAGE_NAME polyveil)
set(CPACK_DEBIAN_SERVER_PACKAGE_NAME polyveil-server)
set(CPACK_DEBIAN_TRAIN_PACKAGE_NAME polyveil-train)
set(CPACK_DEBIAN_TRAIN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_TRAIN_PACKAGE_DEPENDS libopenblas0-openmp)  # LibTorch and its threads
set(CPACK_DEBIAN_TRAIN_PACKAGE_SUGGESTS polyveil)
set(CPACK_DEBIAN_DEV_PACKAGE_NAME polyveil-dev)
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS "libfmt-dev, libsodium-dev, libssl-dev")  # of the archive
if(POLYVEIL_RELEASED)
  string(APPEND CPACK_DEBIAN_DEV_PACKAGE_DEPENDS ", libopenblas-dev, libutf8proc-dev")
endif()
set(CPACK_DEBIAN_CLIENT_PACKAGE_RECOMMENDS polyveil-server)
set(CPACK_DEBIAN_SERVER_PACKAGE_DEPENDS adduser)
set(CPACK_DEBIAN_SERVER_PACKAGE_CONTROL_EXTRA ${PROJECT_SOURCE_DIR}/packaging/postinst
    ${PROJECT_SOURCE_DIR}/packaging/prerm ${PROJECT_SOURCE_DIR}/packaging/conffiles)
include(CPack)
