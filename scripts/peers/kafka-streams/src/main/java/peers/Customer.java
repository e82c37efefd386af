package peers;

import java.util.Arrays;

/** A customer: the tier, how often it changed, and the net spend of each day of the window, in the order of days. */
final class Customer {
    int tier;
    int seq;
    int size;
    long[] days;
    long[] nets;

    Customer(int capacity) {
        days = new long[capacity];
        nets = new long[capacity];
    }

    /** Add to a day's bucket. */
    void add(long day, long net) {
        int place = size;
        while (place > 0 && days[place - 1] >= day) {
            place--;
        }
        if (place < size && days[place] == day) {
            nets[place] += net;
            return;
        }
        if (size == days.length) {
            days = Arrays.copyOf(days, size + 4);
            nets = Arrays.copyOf(nets, size + 4);
        }
        System.arraycopy(days, place, days, place + 1, size - place);
        System.arraycopy(nets, place, nets, place + 1, size - place);
        days[place] = day;
        nets[place] = net;
        size++;
    }

    /** Drop the buckets that have left the window by an instant. */
    void drop(long windowMs, long nowMs) {
        int left = 0;
        while (left < size && days[left] * Ladder.DAY_MS + windowMs <= nowMs) {
            left++;
        }
        if (left > 0) {
            size -= left;
            System.arraycopy(days, left, days, 0, size);
            System.arraycopy(nets, left, nets, 0, size);
        }
    }

    long spend() {
        long spend = 0;
        for (int i = 0; i < size; i++) {
            spend += nets[i];
        }
        return spend;
    }
}
