# SPDX-License-Identifier: Apache-2.0
#
# A package, so that its conftest.py and the one above it are two modules.
