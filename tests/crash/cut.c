/* Cuts the power of an ext4 file system: `cut MOUNT FILE BYTES MICROSECONDS` waits until FILE
 * has BYTES, then for MICROSECONDS, and shuts the file system down without flushing its
 * journal. What the kernel has not brought to the disk by then never gets there. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXT4_IOC_SHUTDOWN _IOR('X', 125, unsigned int)
#define NOLOGFLUSH 2u

int main(int count, char **arguments) {
    if (count != 5) return 2;
    int mount = open(arguments[1], O_RDONLY);
    long polls_left = 600 * 1000; /* of 100 us and more: a minute */
    struct stat file = {0};
    while (!stat(arguments[2], &file) && file.st_size < atol(arguments[3])) {
        if (!--polls_left) return 3;
        usleep(100);
    }
    usleep((useconds_t)atol(arguments[4]));
    unsigned int flags = NOLOGFLUSH;
    if (mount < 0 || ioctl(mount, EXT4_IOC_SHUTDOWN, &flags)) {
        perror("EXT4_IOC_SHUTDOWN");
        return 1;
    }
    return 0;
}
