/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The C++ part of the defect THROWS: an exception that nobody catches.
 */
#include <stdexcept>

extern "C" void defect_throw()
{
    throw std::runtime_error("nobody catches this");
}
