/* Runs a fuzz target over a corpus, as a test: every file of the folders that are named, and each
 * file cut short at every length up to CUTS bytes, since a cut input is the one that comes from a
 * network.
 *
 * Each input stands in memory of exactly its size, so that a sanitizer sees one byte too far. A
 * crash is the only failure; the input's name is printed before it when KEEPWARM_VERBOSE is set.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CUTS	    200
#define INPUT_MOST (1u << 20)
#define PATH_MOST   1024

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_one(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	if (!copy)
		return -1;
	if (size)
		memcpy(copy, data, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
	return 0;
}

static int run_with_cuts(const uint8_t *data, size_t size)
{
	for (size_t cut = 0; cut < size && cut <= CUTS; cut++)
		if (run_one(data, cut) < 0)
			return -1;
	return run_one(data, size);
}

/* Runs the file's content. Returns 0, or -1 when it cannot be read. */
static int run_file(const char *path, uint8_t *room)
{
	FILE *file = fopen(path, "rbe");

	if (!file)
		return -1;
	if (getenv("KEEPWARM_VERBOSE"))
		fprintf(stderr, "%s\n", path);

	size_t size = fread(room, 1, INPUT_MOST, file);
	int bad = ferror(file);

	fclose(file);
	return bad ? -1 : run_with_cuts(room, size);
}

/* Returns how many files were run, or -1. */
static int run_folder(const char *folder, uint8_t *room)
{
	DIR *dir = opendir(folder);
	const struct dirent *entry;
	int count = 0;

	if (!dir)
		return -1;
	while (count >= 0 && (entry = readdir(dir))) {
		char path[PATH_MOST];

		if (entry->d_name[0] == '.')
			continue;
		int n = snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);

		if (n < 0 || n >= (int)sizeof(path) || run_file(path, room) < 0) {
			fprintf(stderr, "%s/%s: cannot be read\n", folder, entry->d_name);
			count = -1;
		} else {
			count++;
		}
	}
	closedir(dir);
	return count;
}

int main(int argc, char **argv)
{
	uint8_t *room = malloc(INPUT_MOST);
	int total = 0;

	if (!room || argc < 2) {
		fprintf(stderr, "usage: %s FOLDER...\n", argv[0]);
		free(room);
		return 2;
	}
	for (int i = 1; i < argc; i++) {
		int count = run_folder(argv[i], room);

		if (count <= 0)
			fprintf(stderr, "%s: no input there\n", argv[i]);
		if (count <= 0 || total < 0)
			total = -1;
		else
			total += count;
	}
	free(room);
	printf("%s: %d inputs\n", argv[0], total);
	return total > 0 ? 0 : 1;
}
