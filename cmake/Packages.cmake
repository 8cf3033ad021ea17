# Debian packages: `cmake --build build --target package` makes polyveil-server_*.deb, polyveil_*.deb and
# polyveil-dev_*.deb of a build without tests.
find_package(Python3 COMPONENTS Interpreter QUIET)

# Man pages of a program, from its own pages of help.
function(install_man program component)
  set(folder ${PROJECT_BINARY_DIR}/man/${program})
  install(CODE "execute_process(COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/scripts/make_man.py
    ${PROJECT_BINARY_DIR}/tools/${program} ${folder} COMMAND_ERROR_IS_FATAL ANY)" COMPONENT ${component})
  install(DIRECTORY ${folder}/ DESTINATION share/man/man1 COMPONENT ${component})
endfunction()
install_man(polyveil client)
install_man(polyveil-server server)
install(FILES ${PROJECT_SOURCE_DIR}/packaging/polyveil-server.service DESTINATION /lib/systemd/system
        COMPONENT server)
install(FILES ${PROJECT_SOURCE_DIR}/packaging/server.conf DESTINATION /etc/polyveil
        PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ COMPONENT server)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_PACKAGE_CONTACT "Polyveil maintainers <polyveil@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Language models on encrypted text")
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL client server dev)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_CLIENT_PACKAGE_NAME polyveil)
set(CPACK_DEBIAN_SERVER_PACKAGE_NAME polyveil-server)
set(CPACK_DEBIAN_DEV_PACKAGE_NAME polyveil-dev)
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS "libfmt-dev, libsodium-dev, libssl-dev")
set(CPACK_DEBIAN_CLIENT_PACKAGE_RECOMMENDS polyveil-server)
set(CPACK_DEBIAN_SERVER_PACKAGE_DEPENDS adduser)
set(CPACK_DEBIAN_SERVER_PACKAGE_CONTROL_EXTRA ${PROJECT_SOURCE_DIR}/packaging/postinst
    ${PROJECT_SOURCE_DIR}/packaging/prerm ${PROJECT_SOURCE_DIR}/packaging/conffiles)
include(CPack)
