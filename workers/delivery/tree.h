/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * An ordered set of nodes that live inside their owners: by key, then by sequence. A treap whose
 * weights follow from the sequence, so that equal histories build equal trees. No allocation.
 * Thread: the engine's.
 */
#ifndef FW_DELIVERY_TREE_H
#define FW_DELIVERY_TREE_H

#include <stdint.h>

struct fw_tree_node {
    struct fw_tree_node *left;
    struct fw_tree_node *right;
    int64_t key;  /* must not change while in a tree */
    uint64_t seq; /* unique: the order among equal keys */
    uint64_t weight;
};

struct fw_tree {
    struct fw_tree_node *root;
    uint32_t count;
};

void fw_tree_add(struct fw_tree *tree, struct fw_tree_node *node);
void fw_tree_remove(struct fw_tree *tree, struct fw_tree_node *node);
/* The lowest; NULL when empty. */
struct fw_tree_node *fw_tree_first(const struct fw_tree *tree);
/* The lowest whose key is not under `key`; NULL when there is none. */
struct fw_tree_node *fw_tree_from(const struct fw_tree *tree, int64_t key);

#endif
