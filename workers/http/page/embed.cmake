# Makes OUT, a C file, from page.html, page.css and page.js in FOLDER: the page with both put in
# place of @STYLE@ and @SCRIPT@, and a Content-Security-Policy that names their hashes, so that
# nothing else on the page can run. No tool but cmake is needed.
foreach(part html css js)
    file(READ ${FOLDER}/page.${part} ${part})
endforeach()

# Base64 of the SHA-256 of a text.
function(hash_of text result)
    set(alphabet "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
    string(SHA256 hex "${text}")
    set(hex "${hex}00") # 33 bytes: 44 characters, the last of which is padding
    set(out "")
    foreach(i RANGE 0 60 6)
        string(SUBSTRING "${hex}" ${i} 6 three)
        math(EXPR bits "0x${three}")
        foreach(shift 18 12 6 0)
            math(EXPR digit "(${bits} >> ${shift}) & 63")
            string(SUBSTRING "${alphabet}" ${digit} 1 letter)
            string(APPEND out "${letter}")
        endforeach()
    endforeach()
    string(SUBSTRING "${out}" 0 43 out)
    set(${result} "${out}=" PARENT_SCOPE)
endfunction()

hash_of("${css}" style)
hash_of("${js}" script)
set(policy "default-src 'none'; script-src 'sha256-${script}'; style-src 'sha256-${style}'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")

string(REPLACE "@STYLE@" "${css}" page "${html}")
string(REPLACE "@SCRIPT@" "${js}" page "${page}")
file(WRITE ${OUT}.html "${page}")
file(READ ${OUT}.html bytes HEX)
string(REGEX REPLACE "(................................)" "\\1\n" bytes "${bytes}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
file(WRITE ${OUT} "/* Made by embed.cmake. */
#include \"page.h\"

const unsigned char fw_page_data[] = {
${bytes}
};
const size_t fw_page_len = sizeof fw_page_data;
const char fw_page_policy[] = \"${policy}\";
")
