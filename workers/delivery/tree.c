/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/tree.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static bool before(const struct fw_tree_node *a, const struct fw_tree_node *b)
{
    return a->key != b->key ? a->key < b->key : a->seq < b->seq;
}

/* Divides the subtree `from` into what is before `at` and what is after it. */
static void split(
    struct fw_tree_node *from,
    const struct fw_tree_node *at,
    struct fw_tree_node **ret_low,
    struct fw_tree_node **ret_high)
{
    while (from != NULL) {
        if (before(from, at)) {
            *ret_low = from;
            ret_low = &from->right;
            from = from->right;
        } else {
            *ret_high = from;
            ret_high = &from->left;
            from = from->left;
        }
    }
    *ret_low = NULL;
    *ret_high = NULL;
}

static struct fw_tree_node *merge(struct fw_tree_node *low, struct fw_tree_node *high)
{
    struct fw_tree_node *root = NULL;
    struct fw_tree_node **place = &root;
    while (low != NULL && high != NULL) {
        if (low->weight > high->weight) {
            *place = low;
            place = &low->right;
            low = low->right;
        } else {
            *place = high;
            place = &high->left;
            high = high->left;
        }
    }
    *place = low != NULL ? low : high;
    return root;
}

void fw_tree_add(struct fw_tree *tree, struct fw_tree_node *node)
{
    struct fw_tree_node **place = &tree->root;
    node->weight = mix(node->seq);
    while (*place != NULL && (*place)->weight >= node->weight) {
        place = before(node, *place) ? &(*place)->left : &(*place)->right;
    }
    split(*place, node, &node->left, &node->right);
    *place = node;
    tree->count++;
}

void fw_tree_remove(struct fw_tree *tree, struct fw_tree_node *node)
{
    struct fw_tree_node **place = &tree->root;
    while (*place != node) {
        assert(*place != NULL);
        place = before(node, *place) ? &(*place)->left : &(*place)->right;
    }
    *place = merge(node->left, node->right);
    tree->count--;
}

struct fw_tree_node *fw_tree_first(const struct fw_tree *tree)
{
    struct fw_tree_node *node = tree->root;
    while (node != NULL && node->left != NULL) {
        node = node->left;
    }
    return node;
}

struct fw_tree_node *fw_tree_from(const struct fw_tree *tree, int64_t key)
{
    struct fw_tree_node *found = NULL;
    struct fw_tree_node *node = tree->root;
    while (node != NULL) {
        if (node->key < key) {
            node = node->right;
        } else {
            found = node;
            node = node->left;
        }
    }
    return found;
}
