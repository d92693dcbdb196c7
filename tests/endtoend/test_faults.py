# SPDX-License-Identifier: Apache-2.0
"""Nothing that goes wrong on our side reaches the watched program: with each of these faults its
output and its end are those of a run without the library, and what was lost stands in the report."""
