/* A sound card for alsa-lib that exists only in memory, and loses samples exactly as a real one does.
 *
 * Each frame is its own number: how many would have been captured since the machine booted, the lower 16 bits
 * in the left channel, the upper in the right. Time alone makes them, so they go on while nobody reads; in the
 * ring, as large as the program asked for, they wait. When the ring is full the card stops (XRUN) and what is
 * in it is gone, as in the kernel's pcm_lib. Whoever reads knows what it lost: the numbers tell.
 *
 *   pcm.counting { type counting }
 */

#include <alsa/asoundlib.h>
#include <alsa/pcm_external.h>
#include <stdint.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define RATE 48000
#define CHANNELS 2

typedef struct {
	snd_pcm_ioplug_t io;
	int running;
	uint64_t first; /* number of the first frame since the start */
	snd_pcm_uframes_t wake;
} card_t;

static uint64_t now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return (uint64_t)at.tv_sec * RATE + (uint64_t)at.tv_nsec * RATE / 1000000000;
}

static int wake_each(card_t *card, snd_pcm_uframes_t frames)
{
	long long nanoseconds = (long long)frames * 1000000000 / RATE;
	struct timespec each = { .tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000 };
	struct itimerspec times = { .it_interval = each, .it_value = each };

	return timerfd_settime(card->io.poll_fd, 0, &times, NULL) < 0 ? -errno : 0;
}

static int start(snd_pcm_ioplug_t *io)
{
	card_t *card = io->private_data;

	card->running = 1;
	card->first = now();
	return wake_each(card, io->period_size);
}

static int stop(snd_pcm_ioplug_t *io)
{
	card_t *card = io->private_data;

	card->running = 0;
	return wake_each(card, 0);
}

/* in the ring; appl_ptr are those fetched since the start */
static uint64_t waiting(card_t *card)
{
	return card->running ? now() - card->first - card->io.appl_ptr : 0;
}

static snd_pcm_sframes_t pointer(snd_pcm_ioplug_t *io)
{
	card_t *card = io->private_data;
	uint64_t ready = waiting(card);

	if (io->state == SND_PCM_STATE_XRUN || ready >= io->buffer_size)
		return -EPIPE;
	return (io->appl_ptr + ready) % io->buffer_size;
}

static snd_pcm_sframes_t transfer(snd_pcm_ioplug_t *io, const snd_pcm_channel_area_t *areas,
				  snd_pcm_uframes_t offset, snd_pcm_uframes_t size)
{
	card_t *card = io->private_data;
	uint16_t *out = (uint16_t *)((char *)areas->addr + areas->first / 8) + offset * CHANNELS;

	for (snd_pcm_uframes_t frame = 0; frame < size; frame++) {
		uint32_t number = (uint32_t)(card->first + io->appl_ptr + frame);

		*out++ = number & 0xffff;
		*out++ = number >> 16;
	}
	return size;
}

static int sw_params(snd_pcm_ioplug_t *io, snd_pcm_sw_params_t *params)
{
	card_t *card = io->private_data;

	return snd_pcm_sw_params_get_avail_min(params, &card->wake);
}

static int poll_revents(snd_pcm_ioplug_t *io, struct pollfd *polled, unsigned int count, unsigned short *revents)
{
	card_t *card = io->private_data;
	uint64_t ticks;

	(void)count;
	if (polled->revents & POLLIN && read(io->poll_fd, &ticks, sizeof(ticks)) < 0 && errno != EAGAIN)
		return -errno;
	if (io->state == SND_PCM_STATE_XRUN)
		*revents = POLLIN | POLLERR;
	else
		*revents = waiting(card) >= card->wake ? POLLIN : 0;
	return 0;
}

static int close_card(snd_pcm_ioplug_t *io)
{
	close(io->poll_fd);
	free(io->private_data);
	return 0;
}

static const snd_pcm_ioplug_callback_t callbacks = {
	.start = start,
	.stop = stop,
	.prepare = stop,
	.pointer = pointer,
	.transfer = transfer,
	.sw_params = sw_params,
	.poll_revents = poll_revents,
	.close = close_card,
};

static int limit(snd_pcm_ioplug_t *io)
{
	static const unsigned int access[] = { SND_PCM_ACCESS_MMAP_INTERLEAVED, SND_PCM_ACCESS_RW_INTERLEAVED };
	static const unsigned int format[] = { SND_PCM_FORMAT_S16_LE };
	int error = snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_ACCESS, 2, access);

	if (!error)
		error = snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_FORMAT, 1, format);
	if (!error)
		error = snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_CHANNELS, CHANNELS, CHANNELS);
	if (!error)
		error = snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_RATE, RATE, RATE);
	if (!error) /* 5 ms to 2 s, as USB audio has it */
		error = snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_PERIOD_BYTES, 960, 96000);
	if (!error)
		error = snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_BUFFER_BYTES, 1920, 384000);
	return error;
}

SND_PCM_PLUGIN_DEFINE_FUNC(counting)
{
	card_t *card;
	int error;

	(void)root;
	(void)conf;
	if (stream != SND_PCM_STREAM_CAPTURE)
		return -EINVAL;
	card = calloc(1, sizeof(*card));
	if (!card)
		return -ENOMEM;
	card->io.version = SND_PCM_IOPLUG_VERSION;
	card->io.name = "numbered samples";
	card->io.callback = &callbacks;
	card->io.private_data = card;
	card->io.poll_events = POLLIN;
	card->io.poll_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	error = card->io.poll_fd < 0 ? -errno : snd_pcm_ioplug_create(&card->io, name, stream, mode);
	if (error < 0) {
		free(card);
		return error;
	}
	error = limit(&card->io);
	if (error < 0) {
		snd_pcm_ioplug_delete(&card->io); /* calls close_card */
		return error;
	}
	*pcmp = card->io.pcm;
	return 0;
}

SND_PCM_PLUGIN_SYMBOL(counting);
