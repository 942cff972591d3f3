/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * fila_request_read on any bytes (the first picks the call): what it accepts is written again, read
 * again and written again, with the same bytes; also through a deep copy.
 */
#include "wire/codec.h"
#include "wire/copy.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t *written(const fila_request *request, size_t *ret_len)
{
    *ret_len = fila_request_size(request);
    uint8_t *bytes = malloc(*ret_len ? *ret_len : 1);
    fila_request_write(request, bytes);
    return bytes;
}

static void again(const fila_request *request)
{
    struct fila_scratch scratch = {0};
    fila_request second;
    fila_request copy;
    size_t len = 0;
    size_t second_len = 0;
    uint8_t *bytes = written(request, &len);
    if (fila_request_read(request->call, bytes, len, &scratch, &second, NULL)) {
        abort();
    }
    size_t room = fila_request_copy_size(&second);
    void *memory = malloc(room ? room : 1);
    fila_request_copy_into(&second, memory, &copy);
    uint8_t *second_bytes = written(&copy, &second_len);
    if (len != second_len || memcmp(bytes, second_bytes, len) != 0) {
        abort();
    }
    free(memory);
    free(second_bytes);
    fila_scratch_free(&scratch);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fila_scratch scratch = {0};
    fila_request request;
    fila_error error = FILA_ERROR_INIT;
    if (!size) {
        return 0;
    }
    uint8_t *bytes = malloc(size); /* one more than is read, so never of no size */
    memcpy(bytes, data + 1, size - 1);
    fila_call call = (fila_call)(data[0] % (FILA_CALL_COUNT + 1));
    if (!fila_request_read(call, bytes, size - 1, &scratch, &request, &error)) {
        again(&request);
    } else if (!error.text[0]) {
        abort();
    }
    fila_scratch_free(&scratch);
    free(bytes);
    return 0;
}
