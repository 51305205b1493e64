/* Decodes crops with libjpeg-turbo's own partial decode and times nothing else.
 *
 * partial_decode FILE: FILE holds, for each image, five native uint32 (bytes of
 * the JPEG, then y x height width of the crop) and the JPEG. For every line on
 * its standard input the program decodes all the crops once and prints the CPU
 * seconds that took.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jpeglib.h>

enum { BYTES, Y, X, HEIGHT, WIDTH, FIELDS };

/* Decodes one crop to `pixels`, rows of up to `row_bytes` each. */
static void decode(const unsigned char *jpeg, const uint32_t *image,
                   unsigned char *pixels, size_t row_bytes) {
  struct jpeg_decompress_struct info;
  struct jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, jpeg, image[BYTES]);
  jpeg_read_header(&info, TRUE);
  info.out_color_space = JCS_RGB;
  info.dct_method = JDCT_IFAST;
  jpeg_start_decompress(&info);
  JDIMENSION x = image[X], width = image[WIDTH];
  jpeg_crop_scanline(&info, &x, &width);
  jpeg_skip_scanlines(&info, image[Y]);
  for (uint32_t row = 0; row < image[HEIGHT]; row++) {
    JSAMPROW out = pixels + row * row_bytes;
    jpeg_read_scanlines(&info, &out, 1);
  }
  jpeg_abort_decompress(&info);
  jpeg_destroy_decompress(&info);
}

static unsigned char *read_file(const char *name, size_t *bytes) {
  FILE *file = fopen(name, "rb");
  if (!file) {
    perror(name);
    exit(1);
  }
  fseek(file, 0, SEEK_END);
  *bytes = ftell(file);
  rewind(file);
  unsigned char *data = malloc(*bytes);
  if (!data || fread(data, 1, *bytes, file) != *bytes) {
    fprintf(stderr, "Expected %zu bytes in %s, came fewer.\n", *bytes, name);
    exit(1);
  }
  fclose(file);
  return data;
}

int main(int count, char **arguments) {
  if (count != 2) {
    fprintf(stderr, "Expected one argument, a file of images and crops.\n");
    return 1;
  }
  const size_t row_bytes = 3 * 4096;
  size_t bytes;
  unsigned char *data = read_file(arguments[1], &bytes);
  unsigned char *pixels = malloc(4096 * row_bytes);
  char line[64];
  while (fgets(line, sizeof line, stdin)) {
    clock_t start = clock();
    for (unsigned char *at = data; at < data + bytes;) {
      uint32_t image[FIELDS];
      memcpy(image, at, sizeof image);
      at += sizeof image;
      decode(at, image, pixels, row_bytes);
      at += image[BYTES];
    }
    printf("%.6f\n", (double)(clock() - start) / CLOCKS_PER_SEC);
    fflush(stdout);
  }
  free(pixels);
  free(data);
  return 0;
}
