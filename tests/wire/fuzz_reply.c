/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * fila_reply_read on any bytes (the first picks the call): what it accepts is written again, read
 * again and written again, with the same bytes; also through a deep copy.
 */
#include "wire/codec.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t *written(const fila_reply *reply, size_t *ret_len)
{
    *ret_len = fila_reply_size(reply);
    uint8_t *bytes = malloc(*ret_len ? *ret_len : 1);
    fila_reply_write(reply, bytes);
    return bytes;
}

static void again(const fila_reply *reply)
{
    struct fila_scratch scratch = {0};
    fila_reply second;
    size_t len = 0;
    size_t second_len = 0;
    uint8_t *bytes = written(reply, &len);
    if (fila_reply_read(reply->call, bytes, len, &scratch, &second, NULL)) {
        abort();
    }
    fila_reply *copy = fila_reply_copy(&second);
    uint8_t *second_bytes = written(copy, &second_len);
    if (len != second_len || memcmp(bytes, second_bytes, len) != 0) {
        abort();
    }
    fila_reply_free(copy);
    free(second_bytes);
    fila_scratch_free(&scratch);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fila_scratch scratch = {0};
    fila_reply reply;
    fila_error error = FILA_ERROR_INIT;
    if (!size) {
        return 0;
    }
    uint8_t *bytes = malloc(size); /* one more than is read, so never of no size */
    memcpy(bytes, data + 1, size - 1);
    fila_call call = (fila_call)(data[0] % (FILA_CALL_COUNT + 1));
    if (!fila_reply_read(call, bytes, size - 1, &scratch, &reply, &error)) {
        again(&reply);
    } else if (!error.text[0]) {
        abort();
    }
    fila_scratch_free(&scratch);
    free(bytes);
    return 0;
}
